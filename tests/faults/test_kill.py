"""After kill -9 at any moment, the next start uses what was saved and ends in the same bytes."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from disturbed_runs import (
    Job,
    Report,
    at_each_step,
    damage,
    is_torn,
    listed,
    saved,
    shortfall,
    was_killed,
)
from forked import Ended
from io_steps import Fault, first_of_each, killed_after, killed_before, killed_midway
from runs import events, of

MOST_ATTEMPTS = 12
"""The last of them is left alone."""


def recomputed(err: str) -> int:
    """Return how many pairs a run says it has computed that the journal held already."""
    whole = err[: err.rfind("\n") + 1]  # a kill may cut a line
    batches = of("batch.done", events(whole)) if whole else []
    return sum(batch["pairs"] - batch["new"] for batch in batches)


def killed(job: Job, folder: Path, moment: float) -> Ended:
    """Run a job that is killed at a moment, or earlier when it has come to its end by then."""
    while not was_killed(ended := job.run(folder, kill_after=moment)):
        shutil.rmtree(folder)
        moment /= 2
    return ended


@pytest.mark.slow
@pytest.mark.parametrize("interval", [1, 10])
def test_a_run_killed_at_random_moments_goes_on_to_the_same_bytes(
    job_of: Callable[..., Job],
    tmp_path: Path,
    interval: int,
    report: Report,
) -> None:
    job = job_of(40, f"--save-interval={interval}")
    seeds = range(100 if report.full else 3)
    wrong: dict[int, list[str]] = {}
    kills = again = all_cut = 0
    for seed in seeds:
        cut = 0  # batches of which a kill has saved some pairs: they are computed again as a whole
        moments = random.Random(seed)  # noqa: S311  (moments to kill at)
        folder = tmp_path / str(seed)
        before: list[bytes] = []
        complaints = []
        for attempt in range(MOST_ATTEMPTS):
            moment = moments.uniform(0, job.seconds)
            if attempt == 0:
                ended = killed(job, folder, moment)
            else:
                is_last = attempt == MOST_ATTEMPTS - 1
                ended = job.run(folder, kill_after=None if is_last else moment)
            again += recomputed(ended.err)
            if not was_killed(ended):
                complaints += shortfall(job, ended, before, folder, cut * job.largest_batch)
                break
            kills += 1
            cut += is_torn(folder)
            complaints += damage(before, folder)
            before = saved(folder)
        all_cut += cut
        if complaints:
            wrong[seed] = complaints
    report.figure(
        f"kill -9 at random moments, save interval {interval}",
        f"{len(seeds)} of {len(seeds)} the same bytes",
        f"{len(seeds) - len(wrong)} of {len(seeds)}, after {kills} kills",
    )
    report.figure(
        f"saved pairs computed again, save interval {interval}",
        "0, unless the kill cut a write",
        f"{again}, {all_cut} writes cut",
    )
    assert not wrong, listed(wrong)
    assert again <= all_cut * job.largest_batch
    assert kills >= len(seeds)


@pytest.mark.slow
@pytest.mark.parametrize("begun", [False, True], ids=["a first start", "a start that goes on"])
@pytest.mark.parametrize("fault", [killed_before, killed_midway, killed_after])
def test_a_run_killed_at_any_step_of_its_files_goes_on_to_the_same_bytes(
    job_of: Callable[..., Job],
    tmp_path: Path,
    fault: Fault,
    begun: bool,
    report: Report,
) -> None:
    """Of a batch that is half written, some pairs are saved; it is computed again as a whole."""

    def some(steps: Sequence[str]) -> list[int]:
        sample = first_of_each(steps)
        if fault is killed_midway:
            sample = [number for number in sample if steps[number - 1].startswith("write")]
        return sample[fault is killed_after :: 4 if begun else 2]

    job = job_of(8, "--save-interval=1")
    again = job.largest_batch if begun or fault is killed_midway else 0
    wrong: dict[str, list[str]] = {}
    tried = 0
    for step, folder, steps, ended in at_each_step(
        job, begun, fault, tmp_path, None if report.full else some
    ):
        assert was_killed(ended)
        tried += 1
        before = saved(folder)
        complaints = damage(saved(steps.told), folder)
        complaints += shortfall(job, job.run(folder), before, folder, again)
        if complaints:
            wrong[step] = complaints
    report.figure(
        f"{fault.__name__.replace('_', ' ')} each step of the files,"
        f" {'when resuming' if begun else 'first start'}",
        f"{tried} of {tried} the same bytes",
        f"{tried - len(wrong)} of {tried}",
    )
    assert not wrong, listed(wrong)
    assert tried > 0
