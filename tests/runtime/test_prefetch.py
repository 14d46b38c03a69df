"""Items come in order, each made while the one before it is in use, and none earlier than that."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from atp.runtime.prefetch import prefetch

SOON = 10.0
"""Seconds that no test waits for unless something is wrong."""


class Source:
    """Makes the numbers from 0 up, and tells how far it is.

    Args:
        count: how many.
        fails_at: raise instead of making this one.
    """

    def __init__(self, count: int, fails_at: int | None = None) -> None:
        self.count, self.fails_at = count, fails_at
        self.begun = [threading.Event() for _ in range(count + 1)]
        self.thread: threading.Thread | None = None

    def __iter__(self) -> Iterator[int]:
        """Make one number after the other."""
        for number in range(self.count):
            self.thread = threading.current_thread()
            self.begun[number].set()
            if number == self.fails_at:
                msg = f"no {number}"
                raise ValueError(msg)
            yield number
        self.begun[self.count].set()

    @property
    def made(self) -> int:
        """How many numbers were begun."""
        return sum(event.is_set() for event in self.begun)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Whatever a test does, its threads have ended when it has."""
    before = threading.enumerate()
    yield
    assert [thread for thread in threading.enumerate() if thread not in before] == []


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_all_items_come_in_order(count: int) -> None:
    assert list(prefetch(range(count))) == list(range(count))


@pytest.mark.parametrize("item", [None, 0, [], ""])
def test_an_item_that_is_empty_ends_nothing(item: object) -> None:
    assert list(prefetch([item, 1, item])) == [item, 1, item]


def test_the_next_item_is_made_in_another_thread_while_one_is_in_use() -> None:
    source = Source(5)
    for number in prefetch(source):
        assert source.begun[number + 1].wait(SOON)  # this one is not handed back yet
        assert source.thread is not threading.current_thread()


def test_no_more_than_one_item_is_made_ahead() -> None:
    source = Source(5)
    for number in prefetch(source):
        assert source.begun[number + 1].wait(SOON)
        later = source.begun[number + 2 :]
        assert not (later and later[0].wait(0.05))


def test_nothing_is_made_before_the_first_item_is_asked_for() -> None:
    source = Source(3)
    items = prefetch(source)
    assert source.made == 0
    assert next(items) == 0
    items.close()  # type: ignore[attr-defined]  (a generator)


def test_an_exception_comes_when_its_turn_comes() -> None:
    source = Source(5, fails_at=2)
    items = prefetch(source)
    assert next(items) == 0
    assert next(items) == 1
    assert source.begun[2].wait(SOON)  # it has failed, or is about to; 1 is in use all the same
    with pytest.raises(ValueError, match="no 2"):
        next(items)
    assert list(items) == []


def test_closing_early_ends_the_thread_and_makes_no_more() -> None:
    source = Source(100)
    items = prefetch(source)
    assert next(items) == 0
    assert source.begun[1].wait(SOON)
    assert source.thread is not None
    assert source.thread.is_alive()
    items.close()  # type: ignore[attr-defined]  (a generator)
    assert not source.thread.is_alive()
    assert source.made == 2


def test_a_fault_of_the_user_of_the_items_ends_the_thread() -> None:
    source = Source(100)

    def use() -> None:
        for _ in prefetch(source):
            msg = "stopped"
            raise KeyboardInterrupt(msg)

    with pytest.raises(KeyboardInterrupt):
        use()
    assert source.thread is not None
    assert not source.thread.is_alive()
    assert source.made <= 2


def test_the_end_leaves_no_thread() -> None:
    source = Source(4)
    assert sum(prefetch(source)) == 6
    assert source.thread is not None
    assert not source.thread.is_alive()
