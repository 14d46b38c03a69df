"""Runs `atp bench` on the demo with responses of usual length: each is repeated up to N words.

Usage:
  longer_responses.py [--words=N] [--rounds=N]
  longer_responses.py --help

Options:
  --words=N   [default: 170]
  --rounds=N  [default: 3]

The demo's responses were cut off at 60 tokens. Tokens after the first differing one change no
score: atp never computes them, the notebook's procedure does.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import demo
from docopt import docopt

from atp.bench.command import bench
from atp.runtime.log import configure


def main() -> None:
    """Print the table."""
    arguments = docopt(__doc__)
    configure(run_id="longer")
    with TemporaryDirectory() as folder:
        source = Path(folder) / "longer.json"
        demo.write_longer_responses(source, int(arguments["--words"]))
        table, path = bench(demo.settings(input=source, rounds=int(arguments["--rounds"])))
    print(table, path, sep="\n\n")


if __name__ == "__main__":
    main()
