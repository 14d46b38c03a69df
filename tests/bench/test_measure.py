"""Contenders take turns, ratios are of the same round, and one without memory stops no other."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from structlog.testing import capture_logs
from tiers import first_tier

from atp.bench.measure import Contender, interleave, ratio
from atp.model.device_memory import reset_peak

CPU = torch.device("cpu")
MIB = 2**20


def nothing() -> None:
    """Need no time."""


def needs_too_much() -> None:
    """Ask for more memory than any machine has."""
    torch.empty(2**58)


def noting(names: str, log: list[str]) -> list[Contender]:
    """Return contenders that note in `log` that they were warmed up (upper case) and run."""

    def note(text: str) -> Callable[[], object]:
        return lambda: log.append(text)

    return [Contender(name, note(name), note(name.upper())) for name in names]


def timed(*seconds: float) -> Contender:
    """Return a contender that has been measured."""
    return Contender("timed", nothing, nothing, list(seconds))


@pytest.mark.slow
def test_rounds_are_interleaved_and_each_starts_with_another_contender() -> None:
    log: list[str] = []
    contenders = noting("abc", log)
    interleave(contenders, 4, CPU)
    assert "".join(log) == "ABC" + "abc" + "bca" + "cab" + "abc"
    assert [len(contender.seconds) for contender in contenders] == [4, 4, 4]


@pytest.mark.slow
def test_a_warm_up_is_not_timed() -> None:
    slow_start = Contender("a", nothing, lambda: time.sleep(0.3))
    interleave([slow_start], 3, CPU)
    assert max(slow_start.seconds) < 0.3


@pytest.mark.slow
def test_what_is_timed_is_how_long_it_takes() -> None:
    contenders = [
        Contender("long", lambda: time.sleep(0.06), nothing),
        Contender("short", lambda: time.sleep(0.02), nothing),
    ]
    interleave(contenders, 3, CPU)
    long, short = contenders
    assert 0.06 <= min(long.seconds) < 5
    assert 0.02 <= min(short.seconds) < 5


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    """Not the ratio of the medians: the machine was slow for both in the third round."""
    one, other = timed(2, 9, 40, 10, 3), timed(1, 3, 20, 4, 9)
    assert ratio(one, other) == 2  # of 2, 3, 2, 2.5, 1/3
    assert one.median is not None
    assert other.median is not None
    assert one.median / other.median == 2.25
    assert ratio(other, one) == 0.5


def test_the_median_of_no_rounds_is_none() -> None:
    assert timed().median is None
    assert ratio(timed(), timed(1)) is None
    assert timed(3, 1, 2).median == 2


@pytest.mark.parametrize("place", first_tier([1], range(3)))
def test_a_contender_without_memory_is_left_out_and_the_others_are_measured(place: int) -> None:
    log: list[str] = []
    contenders = noting("ab", log)
    contenders.insert(place, Contender("hungry", needs_too_much, needs_too_much))
    with capture_logs() as lines:
        interleave(contenders, 3, CPU)
    hungry = contenders.pop(place)
    assert hungry.out_of_memory
    assert hungry.seconds == []
    assert hungry.median is None
    assert not any(contender.out_of_memory for contender in contenders)
    assert [len(contender.seconds) for contender in contenders] == [3, 3]
    assert ratio(*contenders) is not None
    assert ratio(contenders[0], hungry) is None
    assert ratio(hungry, contenders[0]) is None
    (told,) = [line for line in lines if line["event"] == "bench.oom"]
    assert told["what"] == "hungry"
    assert told["log_level"] == "warning"
    assert 0 < told["used_bytes"] <= told["total_bytes"]
    rounds = [(line["round"], line["what"]) for line in lines if line["event"] == "bench.round"]
    assert sorted(rounds) == [(number, name) for number in (1, 2, 3) for name in "ab"]


@pytest.mark.slow
def test_a_contender_that_runs_out_of_memory_late_has_no_median() -> None:
    rounds: list[int] = []

    def third_time_hungry() -> None:
        rounds.append(len(rounds))
        if len(rounds) == 3:
            needs_too_much()

    late, other = Contender("late", third_time_hungry, nothing), Contender("b", nothing, nothing)
    interleave([late, other], 5, CPU)
    assert len(rounds) == 3
    assert late.out_of_memory
    assert late.median is None
    assert ratio(late, other) is None
    assert len(other.seconds) == 5


def test_another_fault_ends_the_comparison() -> None:
    def fails() -> None:
        msg = "no such number"
        raise ValueError(msg)

    with pytest.raises(ValueError, match="no such number"):
        interleave([Contender("a", fails, nothing)], 1, CPU)


def test_each_contender_has_its_own_peak_of_memory() -> None:
    if not reset_peak(CPU):
        pytest.skip("this system does not let a process reset its peak (/proc/self/clear_refs)")
    contenders = [
        Contender("large", lambda: len(b"\1" * (200 * MIB)), nothing),
        Contender("small", nothing, nothing),
    ]
    interleave(contenders, 2, CPU)
    large, small = (contender.peak_bytes for contender in contenders)
    assert large is not None
    assert small is not None
    assert large - small == pytest.approx(200 * MIB, rel=0.1)
