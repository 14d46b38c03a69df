"""Memory does not grow with the file: one question at a time is read, and one is written."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

COPY = """
import resource, sys
from pathlib import Path
from atp.dataset.journal import Journal
from atp.dataset.reader import pairs
from atp.dataset.results import write_results
from atp.dataset.input_scan import scan_input

path = Path(sys.argv[1])
found = scan_input(path)
assert sum(1 for _ in pairs(path)) == found.pairs
with Journal.create(path.with_suffix(".journal"), {}) as journal:
    write_results(found, journal, [path.with_suffix(".out")], [{}])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak_mib(path: Path) -> int:
    """Return the peak memory of a process that reads `path` and writes it back, in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", COPY, str(path)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def write(path: Path, count: int) -> Path:
    """Write `count` questions of about 150 KB, with numbers and text in unknown fields."""
    rng = random.Random(0)  # noqa: S311  (numbers to fill a file)
    question = {
        "variations": [
            {"prompt": "p", "response": "a", "sycophancy_flag": 0},
            {"prompt": "p", "response": "b", "sycophancy_flag": 1, "template_type": "I wrote"},
        ],
        "sae_activations": [rng.gauss(0, 1) for _ in range(5000)],
        "notes": "é, " * 12000,
    }
    text = json.dumps(question, ensure_ascii=False)
    path.write_text('{"results": [' + ", ".join([text] * count) + "]}", encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_file_forty_times_as_large_takes_no_more_memory(tmp_path: Path) -> None:
    small, large = write(tmp_path / "small.json", 10), write(tmp_path / "large.json", 400)
    assert large.stat().st_size > 50e6
    assert peak_mib(large) - peak_mib(small) <= 8
