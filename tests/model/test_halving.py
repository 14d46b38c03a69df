"""A batch that fails is done in parts, in order; only the item at fault has no result."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import pytest
import torch

from atp.model.device_memory import is_out_of_memory
from atp.model.halving import Failure, halves, in_halves

if TYPE_CHECKING:
    from collections.abc import Sequence


class Device:
    """Stands for a model: has a device whose memory is freed."""

    devices = (torch.device("cpu"),)

    def __init__(self) -> None:
        self.freed = 0

    def free_memory(self) -> None:
        """Count the calls."""
        self.freed += 1


class Tensors:
    """Stands for what a failed batch has in memory."""


def nothing(failure: Failure, batch: Sequence[int]) -> None:
    """Stand in with None."""
    del failure, batch


def tenfold(batch: Sequence[int]) -> list[int]:
    """Fail for more than two items, and for 5."""
    if len(batch) > 2 or 5 in batch:
        raise MemoryError
    return [10 * item for item in batch]


def test_a_batch_that_fails_is_halved_down_to_the_item_at_fault() -> None:
    model = Device()
    found = in_halves(model, tenfold, [1, 2, 3, 4, 5, 6, 7], nothing)
    assert found == [10, 20, 30, 40, None, 60, 70]
    assert model.freed == 5  # after all seven, 1 to 3, 4 to 7, 4 to 5, and 5


def test_the_caller_logs_each_retry_and_decides_what_stands_in() -> None:
    retried: list[tuple[str, list[int]]] = []
    stood_in: list[tuple[bool, list[int]]] = []

    def stand_in(failure: Failure, batch: Sequence[int]) -> int:
        stood_in.append((failure.out_of_memory, list(batch)))
        return -1

    found = in_halves(
        Device(),
        tenfold,
        [4, 5, 6],
        stand_in,
        before_retry=lambda failure, batch: retried.append((repr(failure.error), list(batch))),
    )
    assert found == [40, -1, 60]
    assert retried == [("MemoryError()", [4, 5, 6]), ("MemoryError()", [5, 6])]
    assert stood_in == [(True, [5])]


def test_figures_of_the_memory_are_taken_when_it_ran_out() -> None:
    failures: list[Failure] = []

    def fail(batch: Sequence[BaseException]) -> list[None]:
        raise batch[0]

    for error in (MemoryError(), ValueError()):
        in_halves(Device(), fail, [error], lambda failure, _: failures.append(failure))
    assert failures[0].memory["used_bytes"] > 0
    assert failures[1].memory == {}
    assert not failures[1].out_of_memory


def test_an_error_that_is_no_fault_is_raised() -> None:
    def fail(batch: Sequence[int]) -> list[int]:
        raise RuntimeError(batch)

    model = Device()
    with pytest.raises(RuntimeError):
        in_halves(model, fail, [1, 2], nothing, is_fault=is_out_of_memory)
    assert model.freed == 0


def test_what_the_caller_raises_for_an_item_ends_the_work() -> None:
    done: list[int] = []

    def work(batch: Sequence[int]) -> list[int]:
        if len(batch) > 1 or 2 in batch:
            raise ValueError
        done.extend(batch)
        return list(batch)

    def lost(failure: Failure, batch: Sequence[int]) -> int:
        raise LookupError(batch) from failure.error

    with pytest.raises(LookupError):
        in_halves(Device(), work, [1, 2, 3, 4], lost)
    assert done == [1]


def test_parts_may_be_other_than_halves() -> None:
    def upper(batch: Sequence[str]) -> list[str]:
        if len(batch) > 1 or batch[0] in {"cd", "d"}:
            raise ValueError
        return [batch[0].upper()]

    def words_then_letters(batch: Sequence[str]) -> list[list[str]]:
        parts = batch if len(batch) > 1 else batch[0]
        return [[part] for part in parts] if len(parts) > 1 else []

    found = in_halves(Device(), upper, ["ab", "cd"], lambda *_: "?", split=words_then_letters)
    assert found == ["AB", "C", "?"]
    assert halves([1]) == ()


def test_nothing_of_the_failed_batch_is_kept_when_its_halves_are_tried() -> None:
    alive: list[weakref.ref[Tensors]] = []

    def allocate(batch: Sequence[int]) -> list[int]:
        tensors = Tensors()
        alive.append(weakref.ref(tensors))
        raise MemoryError(batch)

    def fail(batch: Sequence[int]) -> list[int]:
        assert not any(held() for held in alive)
        tensors = Tensors()
        alive.append(weakref.ref(tensors))
        try:
            return allocate(batch)
        except MemoryError as error:
            raise RuntimeError from error

    def nothing_alive(failure: Failure, batch: Sequence[int]) -> None:
        del failure, batch
        assert not any(held() for held in alive)

    in_halves(Device(), fail, [1, 2, 3], nothing_alive)
    assert len(alive) == 10
