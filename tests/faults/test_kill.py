"""After kill -9 at any moment, the next start finds all that was saved and ends in the same bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from io_steps import Fault, Steps, killed_after, killed_before, killed_midway, numbers
from jobs import OUT, Job, damage, saved, shortfall, was_killed
from runs import events, of

from atp.errors import ExitCode

MOST_ATTEMPTS = 12
"""The last of them is left alone."""


def recomputed(err: str) -> int:
    """Return how many pairs a run says it has computed that the journal held already."""
    whole = err[: err.rfind("\n") + 1]  # a kill may cut a line
    batches = of("batch.done", events(whole)) if whole else []
    return sum(batch["pairs"] - batch.get("new", batch["pairs"]) for batch in batches)


@pytest.mark.parametrize("interval", [1, 10])
def test_a_run_killed_at_random_moments_goes_on_to_the_same_bytes(
    job_of: Callable[..., Job],
    tmp_path: Path,
    interval: int,
    full: bool,
    figures: Callable[[str, str, str], None],
) -> None:
    job = job_of(40, f"--save-interval={interval}")
    seeds = range(100 if full else 5)
    wrong: dict[int, list[str]] = {}
    kills = again = 0
    for seed in seeds:
        moments = random.Random(seed)  # noqa: S311  (moments to kill at)
        folder = tmp_path / str(seed)
        before: list[bytes] = []
        complaints = []
        for attempt in range(MOST_ATTEMPTS):
            moment = moments.uniform(0, job.seconds) if attempt < MOST_ATTEMPTS - 1 else None
            ended = job.run(folder, kill_after=moment)
            again += recomputed(ended.err)
            if not was_killed(ended):
                complaints += shortfall(job, ended, before, folder)
                break
            kills += 1
            complaints += damage(before, folder)
            before = saved(folder)
        if complaints:
            wrong[seed] = complaints
    figures(
        f"kill -9 at random moments, save interval {interval}",
        f"{len(seeds)} of {len(seeds)} the same bytes",
        f"{len(seeds) - len(wrong)} of {len(seeds)}, after {kills} kills",
    )
    figures(f"saved pairs computed again, save interval {interval}", "0", str(again))
    assert wrong == {}
    assert again == 0
    assert kills >= len(seeds)


@pytest.mark.parametrize("fault", [killed_before, killed_midway, killed_after])
def test_a_run_killed_at_any_step_of_its_files_goes_on_to_the_same_bytes(
    job_of: Callable[..., Job],
    tmp_path: Path,
    fault: Fault,
    full: bool,
    figures: Callable[[str, str, str], None],
) -> None:
    """Of a batch that is half written, some pairs are saved; it is computed again as a whole."""
    job = job_of(8, "--save-interval=1")
    again = job.largest_batch if fault is killed_midway else 0
    wrong: dict[str, list[str]] = {}
    tried = 0
    sample = numbers(job.steps)
    share = {
        killed_before: sample[::2],
        killed_midway: [n for n in sample if job.steps[n - 1].startswith("write")],
        killed_after: sample[1::2],
    }
    for number in count(1) if full else share[fault]:
        folder = tmp_path / str(number)
        steps = Steps(folder / OUT, number, fault, folder / "told")
        ended = job.run(folder, steps.install)
        if not steps.reached:
            assert ended.code == ExitCode.OK
            break
        assert was_killed(ended)
        tried += 1
        before = saved(folder)
        complaints = damage(saved(steps.told), folder)
        complaints += shortfall(job, job.run(folder), before, folder, again)
        if complaints:
            wrong[f"{number}: {steps.reached[0]}"] = complaints
    figures(
        f"kill -9 at each step of the files, {fault.__name__.replace('_', ' ')}",
        f"{tried} of {tried} the same bytes",
        f"{tried - len(wrong)} of {tried}",
    )
    assert wrong == {}
    assert tried > 1
