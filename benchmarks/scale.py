"""Measures throughput and memory of a run on 1, 10 and 100 times the demo's pairs.

Usage:
  scale.py [--copies=LIST]
  scale.py --help

Options:
  --copies=LIST  [default: 1,10,100]

Each run is a process of its own, timed from the end of loading to the end of the run. The whole
takes about ten minutes on two cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import demo
from docopt import docopt


def run(source: Path, out: Path) -> tuple[dict[str, float], int]:
    """Return the fields of the run's last line, and its peak memory in bytes."""
    command = [sys.executable, "-m", "atp", "run", source, f"--out={out}", "--chat-template"]
    command += [f"--model={demo.MODEL}", f"--sae={demo.SAE}", "--device=cpu"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    lines = process.stderr.read().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(lines[-1].decode())
    return json.loads(lines[-1]), usage.ru_maxrss << 10


def main() -> None:
    """Print a table."""
    print("| pairs | s after loading | pairs/s | peak GiB |\n| ---: | ---: | ---: | ---: |")
    for copies in map(int, docopt(__doc__)["--copies"].split(",")):
        with TemporaryDirectory() as folder:
            source = Path(folder) / "copies.json"
            demo.write_copies(source, copies)
            done, peak = run(source, Path(folder) / "out")
        speed = done["pairs"] / done["seconds"]
        print(f"| {done['pairs']} | {done['seconds']:.1f} | {speed:.2f} | {peak / 2**30:.2f} |")


if __name__ == "__main__":
    main()
