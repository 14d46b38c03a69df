"""SIGTERM and SIGINT end a run soon, with all that was saved in a valid partial result."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path
from statistics import median

import forked
import pytest
from forked import Child, Ended
from jobs import OUT, Job, damage, pairs_in, saved, shortfall
from runs import analyses, read
from slow import Slow

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
    ended = child.ended()
    assert ended is not None
    return ended.seconds - before, ended


def wrong_with_the_partial_result(folder: Path) -> list[str]:
    """Say what is wrong with the result file of a run that a signal has stopped."""
    held = pairs_in(saved(folder))
    results = list((folder / OUT).glob("*.json"))
    if not results:
        return [f"no result file for {len(held)} saved pairs"] if held else []
    (path,) = results
    result = read(path)
    wrong = []
    if result["metadata"]["atp"]["complete"]:
        wrong.append("a partial result says that it is complete")
    if (shown := len(list(analyses(result)))) != len(held):
        wrong.append(f"the partial result holds {shown} of {len(held)} saved pairs")
    return wrong


def test_a_signal_at_a_random_moment_ends_the_run_soon_and_loses_nothing(
    job_of: Callable[..., Job],
    tmp_path: Path,
    full: bool,
    figures: Callable[[str, str, str], None],
) -> None:
    job = job_of(40, "--save-interval=10")
    wrong: dict[int, list[str]] = {}
    seconds = []
    seeds = range(30 if full else 6)
    for seed in seeds:
        moments = random.Random(seed)  # noqa: S311  (moments to stop at)
        number = list(CODES)[seed % 2]
        folder = tmp_path / str(seed)
        with forked.started(job.arguments, folder, job.counted(folder)) as child:
            early = child.ended(within=moments.uniform(0, 0.9 * job.seconds))
            assert early is None, "a run ended before its time"
            took, ended = stopped(child, number)
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
    figures(
        "a signal to the exit, tiny model",
        f"median <= {MEDIAN} s, worst <= {WORST} s",
        f"median {median(seconds):.2f} s, worst {max(seconds):.2f} s, of {len(seconds)}",
    )
    assert wrong == {}
    assert median(seconds) <= MEDIAN
    assert max(seconds) <= WORST


@pytest.mark.parametrize("number", CODES)
def test_a_batch_that_takes_minutes_is_given_up_after_seconds(
    job_of: Callable[..., Job], tmp_path: Path, number: int
) -> None:
    job = job_of(8, "--save-interval=1")
    with (
        Slow(batch=4) as slow,
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


@pytest.mark.parametrize("second", CODES)
@pytest.mark.parametrize("first", CODES)
def test_a_second_signal_ends_the_run_at_once_in_the_middle_of_a_batch(
    job_of: Callable[..., Job],
    tmp_path: Path,
    first: int,
    second: int,
    figures: Callable[[str, str, str], None],
) -> None:
    job = job_of(8, "--save-interval=1")
    with (
        Slow(batch=4) as slow,
        forked.started(job.arguments, tmp_path, job.counted(tmp_path, slow.install)) as child,
    ):
        slow.wait()
        held = saved(tmp_path)
        child.send(first)
        assert child.ended(within=0.3) is None
        took, ended = stopped(child, second)
    figures("a second signal to the exit", f"<= {AT_ONCE} s", f"{took:.2f} s")
    assert ended.code in {*CODES.values(), -second}
    assert took <= AT_ONCE
    assert damage(held, tmp_path) == []
    assert saved(tmp_path) == held
    assert wrong_with_the_partial_result(tmp_path) == []
    assert shortfall(job, job.run(tmp_path), held, tmp_path) == []
