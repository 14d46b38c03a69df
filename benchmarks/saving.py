"""Measures the share of saving in the time of a run, on 1, 10 and 100 times the demo's pairs.

Usage:
  saving.py [--copies=LIST]
  saving.py --help

Options:
  --copies=LIST  [default: 1,10,100]

Each run is a process of its own, with the default save interval. Its last log line gives the time
for journal, fsyncs and result files, and the time from the first batch to the end. The whole takes
about half an hour on two cores.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import demo
from docopt import docopt
from scale import run


def main() -> None:
    """Print a table."""
    print("| pairs | s after loading | saving s | share |\n| ---: | ---: | ---: | ---: |")
    for copies in map(int, docopt(__doc__)["--copies"].split(",")):
        with TemporaryDirectory() as folder:
            source = Path(folder) / "copies.json"
            demo.write_copies(source, copies)
            done, _ = run(source, Path(folder) / "out")
        seconds, saving = done["seconds"], done["saving_seconds"]
        print(
            f"| {done['pairs']} | {seconds:.1f} | {saving:.2f} | {saving / seconds:.2%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
