"""Memory does not grow with the number of pairs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import forked
import pytest
import tiny
from disturbed_runs import OUT, Report
from forked import Child, Ended
from runs import write

from atp.errors import ExitCode

SETTLED = 500
"""Pairs after which all that is made once is there."""
GROWTH = 0.05
MIB = 2**20
ALONE = 500 * MIB
"""What a process of its own takes at least; a fork has the memory of the tests on top."""
PERIOD = 0.2
"""Seconds between two looks."""
LONGEST = 3600
"""Seconds after which a run hangs."""


def watched(child: Child) -> tuple[Ended, list[tuple[int, int]]]:
    """Return how a run ended, and pairs done and memory at many moments."""
    seen = []
    while (ended := child.ended(within=PERIOD)) is None:
        batches = [line for line in child.log.splitlines() if '"batch.done"' in line]
        if batches:
            seen.append((int(json.loads(batches[-1])["done"]), child.resident_bytes))
        assert child.seconds < LONGEST
    return ended, seen


@pytest.mark.slow
def test_memory_is_flat_over_the_pairs(
    model_folder: Callable[[str], Path],
    sae_folder: Callable[..., Path],
    tmp_path: Path,
    report: Report,
) -> None:
    questions = 6667 if report.full else 400
    path = write(tmp_path / "questions.json", tiny.questions(questions))
    arguments = ["run", str(path), f"--model={model_folder('gpt2')}", f"--out={OUT}"]
    arguments += [f"--sae={sae_folder('standard')}", "--device=cpu", "--batch-tokens=1000"]
    with forked.started(arguments, tmp_path, new=report.full) as child:
        ended, seen = watched(child)
    assert ended.code == ExitCode.OK, ended.err[-400:]
    settled = [size for done, size in seen if done >= SETTLED]
    assert len(settled) > 5
    first, most = settled[0], max(settled)
    growth = (most - first) / min(first, ALONE)
    report.figure(
        f"memory over {3 * questions:,} pairs after the first {SETTLED}",
        f"grows by <= {GROWTH:.0%}",
        f"{growth:.1%}: {first / MIB:.0f} MiB, at most {most / MIB:.0f} MiB",
    )
    assert growth <= GROWTH
