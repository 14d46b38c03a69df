"""Fake tensors and real ones give the same count, to the byte.

This is tested on the tiny shape; the count of a big shape relies on it.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from atp.attribution.batches import Batch
from atp.attribution.contrasts import Contrast

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from live_bytes import BLOCK, LiveBytes
from random_gemma import TINY
from simulated_gemma import Pass, Simulation, contrasts, counted

PROMPT = (1, *range(11, 51))
BATCHES = {
    "nothing shared": contrasts([(60, 20)] * 5),
    "shared prefixes": [
        Contrast((*PROMPT, *[100 + row] * (5 + row)), len(PROMPT) + 3, 3, 4) for row in range(6)
    ],
}
FAKE = FakeTensorMode()


def mode(*, fake: bool) -> AbstractContextManager[object]:
    return FAKE if fake else nullcontext()


@cache
def simulation(*, fake: bool) -> Simulation:
    with mode(fake=fake):
        return Simulation(TINY)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [(1, 2, 4), (4,)])
@pytest.mark.parametrize("name", BATCHES)
def test_a_capture_takes_the_same(name: str, layers: tuple[int, ...]) -> None:
    def count(*, fake: bool) -> Pass:
        model = simulation(fake=fake).model
        with mode(fake=fake):
            return counted(model, BATCHES[name], layers)

    counted_fake = count(fake=True)
    assert counted_fake == count(fake=False)
    assert counted_fake.peak > 0
    prefixes = Batch.of(BATCHES[name], torch.device("cpu")).prefix_ids
    assert bool(prefixes.numel()) == (name == "shared prefixes")


@pytest.mark.slow
def test_the_other_procedures_take_the_same() -> None:
    """They are counted to their end, where the notebook's procedure reads a number."""

    def count(*, fake: bool) -> list[tuple[int, int]]:
        whole = simulation(fake=fake)
        with mode(fake=fake):
            counts = [whole.notebook(2, 30), whole.bare(30)]
        return [(live.peak, live.flops) for live in counts]

    assert count(fake=True) == count(fake=False)


def test_storages_count_from_the_operation_that_makes_them_to_their_last_reference() -> None:
    before = torch.ones(BLOCK)
    with LiveBytes() as live:
        one = before + 1  # float32: 4 blocks
        view = one.view(2, -1)
        view.add_(before.view(2, -1))
        two = torch.cat([one, one])  # 8 blocks
        del one
        assert live.live == 12 * BLOCK
        del view
        assert live.live == 8 * BLOCK
        three = two[:1] * 2  # rounded up to 1 block
    assert live.live == 9 * BLOCK
    assert live.peak == 12 * BLOCK
    assert [item.size for item in live.at_peak()] == [4 * BLOCK, 8 * BLOCK]
    del two, three
    assert live.live == 0


def test_a_product_takes_two_flops_for_each_multiplication_and_addition() -> None:
    with LiveBytes() as live:
        torch.ones(4, 8) @ torch.ones(8, 16)
    assert live.flops == 2 * 4 * 8 * 16
