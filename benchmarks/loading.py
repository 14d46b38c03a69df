"""Compares the start of atp with loading the same model and SAE by the libraries alone.

Usage:
  loading.py [--rounds=N]
  loading.py --help

Options:
  --rounds=N  [default: 5]

Both run in turn, each in a process of its own. `atp` is timed up to its first batch: it also reads,
checks and hashes the input and the weights, and tests model and SAE together.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime
from statistics import median
from tempfile import TemporaryDirectory

import demo
from docopt import docopt

BARE = f"""
import torch
from transformer_lens.model_bridge import TransformerBridge
from sae_lens import SAE
TransformerBridge.boot_transformers({str(demo.MODEL)!r}, dtype=torch.float32, device="cpu")
SAE.load_from_disk({str(demo.SAE)!r}, device="cpu", dtype="float32")
"""


def bare() -> float:
    """Return the seconds of a process that only loads."""
    began = time.time()
    subprocess.run([sys.executable, "-c", BARE], check=True, capture_output=True)
    return time.time() - began


def atp() -> float:
    """Return the seconds from the start of a run to the start of its first batch."""
    with TemporaryDirectory() as out:
        command = [sys.executable, "-m", "atp", "run", demo.INPUT, f"--out={out}", "--limit=1"]
        command += [f"--model={demo.MODEL}", f"--sae={demo.SAE}", "--device=cpu", "--chat-template"]
        began = time.time()
        done = subprocess.run(command, check=True, capture_output=True)
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith(b"{")]
    first = next(event for event in events if event["event"] == "batch.done")
    return datetime.fromisoformat(first["timestamp"]).timestamp() - first["seconds"] - began


def main() -> None:
    """Print a table."""
    rounds = int(docopt(__doc__)["--rounds"])
    bare(), atp()  # warms up both: the files are in the page cache afterwards
    times = [(bare(), atp()) for _ in range(rounds)]
    print("| bare load s | atp to its first batch s | ratio |\n| ---: | ---: | ---: |")
    columns = (*zip(*times, strict=True), [started / loaded for loaded, started in times])
    print("| " + " | ".join(f"{median(column):.2f}" for column in columns) + " |")


if __name__ == "__main__":
    main()
