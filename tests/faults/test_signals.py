"""SIGTERM and SIGINT end a run soon, with all that was saved in a valid partial result."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from statistics import median

import forked
import pytest
from disturbed_runs import OUT, Job, Report, damage, listed, pairs_in, saved, shortfall
from forked import Child, Ended
from runs import analyses, read
from stalled_batch import StalledBatch
from tiers import first_tier

from atp.errors import ExitCode

CODES = {signal.SIGTERM: ExitCode.TERMINATED, signal.SIGINT: ExitCode.INTERRUPTED}
MEDIAN, WORST = 2.0, 5.0
"""Seconds from a signal to the exit."""
AT_ONCE = 0.5
"""Seconds from a second signal to the exit."""


def stopped(child: Child, number: int) -> tuple[float, Ended]:
    """Send a signal; return the seconds to the exit, and how it ended."""
    before = child.seconds
    child.send(number)
    ended = child.ended(within=4 * WORST)
    assert ended is not None, "the signal was in vain"
    return ended.seconds - before, ended


def signalled(
    start: Callable[[], AbstractContextManager[Child]], folder: Path, moment: float, number: int
) -> tuple[float, Ended]:
    """Start a run and send it a signal at a moment; return as `stopped` does.

    A run that has ended by then, on a machine that is not as busy as when it was timed, is started
    anew and gets its signal earlier.
    """
    while True:
        with start() as child:
            if child.ended(within=moment) is None:
                return stopped(child, number)
        shutil.rmtree(folder)
        moment /= 2


def wrong_with_the_partial_result(folder: Path) -> list[str]:
    """Say what is wrong with the result file of a run that a signal has stopped."""
    held = pairs_in(saved(folder))
    results = list((folder / OUT).glob("atp_results_*.json"))
    if not results:
        return [f"no result file for {len(held)} saved pairs"] if held else []
    (path,) = results
    result = read(path)
    wrong = []
    told = result["metadata"]["atp"]
    if told["complete"] != (len(held) == told["counts"]["pairs"]):
        wrong.append(f"complete is {told['complete']} with {len(held)} pairs saved")
    if (shown := len(list(analyses(result)))) != len(held):
        wrong.append(f"the partial result holds {shown} of {len(held)} saved pairs")
    return wrong


@pytest.mark.slow
def test_a_signal_at_a_random_moment_ends_the_run_soon_and_loses_nothing(
    job_of: Callable[..., Job],
    tmp_path: Path,
    report: Report,
) -> None:
    job = job_of(40, "--save-interval=10")
    wrong: dict[int, list[str]] = {}
    seconds = []
    seeds = range(30 if report.full else 6)
    for seed in seeds:
        moments = random.Random(seed)  # noqa: S311  (moments to stop at)
        number = list(CODES)[seed % 2]
        folder = tmp_path / str(seed)
        start = partial(forked.started, job.arguments, folder, job.counted(folder))
        moment = moments.uniform(0, 0.9 * job.seconds)
        took, ended = signalled(start, folder, moment, number)
        seconds.append(took)
        complaints = damage([], folder)
        if ended.code == ExitCode.OK:  # the signal came when all was done
            before = saved(folder)
        else:
            # Before a run listens, the signal itself ends it; a shell calls both by one number.
            if ended.code not in {CODES[number], -number}:
                complaints.append(f"exit code {ended.code}: {ended.err[-400:]}")
            complaints += wrong_with_the_partial_result(folder)
            before = saved(folder)
            complaints += shortfall(job, job.run(folder), before, folder)
        if complaints:
            wrong[seed] = complaints
    report.figure(
        "a signal to the exit, tiny model",
        f"median <= {MEDIAN} s, worst <= {WORST} s",
        f"median {median(seconds):.2f} s, worst {max(seconds):.2f} s, of {len(seconds)}",
    )
    assert not wrong, listed(wrong)
    assert median(seconds) <= MEDIAN
    assert max(seconds) <= WORST


@pytest.mark.full
def test_a_signal_at_a_random_moment_ends_the_demo_soon(
    demo_arguments: list[str], tmp_path: Path, report: Report
) -> None:
    """As a user starts it; what it imports and loads is part of it."""
    source = Path(__file__).parents[2] / "examples" / "smollm2" / "feedback.json"
    arguments = ["run", str(source), *demo_arguments]
    with forked.started(arguments, tmp_path / "whole", new=True) as child:
        whole = child.ended(within=3600)
    assert whole is not None
    assert whole.code == ExitCode.OK
    wrong: dict[int, list[str]] = {}
    seconds = []
    for seed in range(12):
        moments = random.Random(seed)  # noqa: S311  (moments to stop at)
        number = list(CODES)[seed % 2]
        folder = tmp_path / str(seed)
        start = partial(forked.started, arguments, folder, new=True)
        moment = moments.uniform(0, 0.95 * whole.seconds)
        took, ended = signalled(start, folder, moment, number)
        seconds.append(took)
        complaints = damage([], folder) + wrong_with_the_partial_result(folder)
        # Before a run listens, the signal itself ends it; a shell calls both by one number.
        if ended.code not in {CODES[number], -number}:
            complaints.append(f"exit code {ended.code}: {ended.err[-400:]}")
        if complaints:
            wrong[seed] = complaints
    report.figure(
        "a signal to the exit, demo",
        f"median <= {MEDIAN} s, worst <= {WORST} s",
        f"median {median(seconds):.2f} s, worst {max(seconds):.2f} s, of {len(seconds)}",
    )
    assert not wrong, listed(wrong)
    assert median(seconds) <= MEDIAN
    assert max(seconds) <= WORST


@pytest.mark.parametrize("number", first_tier([signal.SIGTERM], CODES))
def test_a_batch_that_takes_minutes_is_given_up_after_seconds(
    job_of: Callable[..., Job], tmp_path: Path, number: int
) -> None:
    job = job_of(8, "--save-interval=1")
    with (
        StalledBatch(batch=4) as slow,
        forked.started(job.arguments, tmp_path, job.counted(tmp_path, slow.install)) as child,
    ):
        slow.wait()
        held = saved(tmp_path)
        took, ended = stopped(child, number)
    assert ended.code == CODES[number]
    assert took <= WORST
    assert len(held) > 0
    assert saved(tmp_path) == held
    assert wrong_with_the_partial_result(tmp_path) == []
    assert shortfall(job, job.run(tmp_path), held, tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("second", CODES)
@pytest.mark.parametrize("first", CODES)
def test_a_second_signal_ends_the_run_at_once_in_the_middle_of_a_batch(
    job_of: Callable[..., Job],
    tmp_path: Path,
    first: int,
    second: int,
    report: Report,
) -> None:
    job = job_of(8, "--save-interval=1")
    with (
        StalledBatch(batch=4) as slow,
        forked.started(job.arguments, tmp_path, job.counted(tmp_path, slow.install)) as child,
    ):
        slow.wait()
        held = saved(tmp_path)
        child.send(first)
        assert child.ended(within=0.3) is None
        took, ended = stopped(child, second)
    what = f"{signal.Signals(second).name} after {signal.Signals(first).name} to the exit"
    report.figure(what, f"<= {AT_ONCE} s", f"{took:.2f} s")
    assert ended.code in {*CODES.values(), -second}
    assert took <= AT_ONCE
    assert damage(held, tmp_path) == []
    assert saved(tmp_path) == held
    assert shortfall(job, job.run(tmp_path), held, tmp_path) == []
