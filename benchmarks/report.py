"""Measures how soon the report of a large result is written, painted and drawn.

Usage:
  report.py [--pairs=N] [--features=N] [--rounds=N]
  report.py --help

Options:
  --pairs=N     Pairs, each with 3.5 kB of text.  [default: 7000]
  --features=N  Features that each pair lists.    [default: 50]
  --rounds=N    Openings of the page; the median counts.  [default: 5]

It needs the dependencies of the tests and Chromium: PYTHONPATH=tests/support python
benchmarks/report.py. The result has the form of a run of a tiny model, and made-up numbers and
texts. The page should be drawn in under 3 s, and have less than 25 MB.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import large_results
import tiny
from browser import chromium, opened
from docopt import docopt

ATP = (sys.executable, "-m", "atp")
ROW = ".table-box tbody tr[aria-rowindex]"
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"
# The page's own clock starts with its opening.
DRAWN = f"""() => new Promise((resolve) => {{
    const look = () => document.querySelector("{ROW}")
        ? requestAnimationFrame(() => resolve(performance.now() / 1000))
        : requestAnimationFrame(look);
    look();
}})"""


def small_result(folder: Path) -> Path:
    """Return the result of a run of a tiny model."""
    tiny.save_model(folder / "tiny", "llama")
    tiny.make_sae("standard").save_model(folder / "sae")
    source = folder / "questions.json"
    source.write_text(json.dumps({"results": tiny.questions()}))
    command = [*ATP, "run", source, f"--model={folder / 'tiny'}", f"--sae={folder / 'sae'}"]
    command += ["--exact=flagged", "--prompt-activations", "--device=cpu", f"--out={folder}"]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("atp_results_*.json"))


def main() -> None:
    """Print a table."""
    arguments = docopt(__doc__)
    with TemporaryDirectory() as name:
        folder = Path(name)
        large, page = folder / "large/atp_results_large.json", folder / "report.html"
        large.parent.mkdir()
        numbers = (int(arguments[option]) for option in ("--pairs", "--features"))
        large_results.write(large, small_result(folder), *numbers)
        began = time.monotonic()
        subprocess.run([*ATP, "report", large, f"--out={page}"], check=True, capture_output=True)
        written = time.monotonic() - began
        painted, drawn = [], []
        with chromium() as browser:
            for _ in range(int(arguments["--rounds"])):
                with opened(browser, page, "#/r0/features") as tab:
                    drawn.append(tab.evaluate(DRAWN))
                    painted.append(tab.evaluate(PAINT))
        print("| s to write | MB | s to the first paint | s to the features' table |")
        print("| ---: | ---: | ---: | ---: |")
        size = page.stat().st_size / 1e6
        print(f"| {written:.1f} | {size:.1f} | {median(painted):.2f} | {median(drawn):.2f} |")


if __name__ == "__main__":
    main()
