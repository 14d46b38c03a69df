"""The batch plan covers every contrast once, keeps the budget, and depends on nothing else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atp.attribution.batches import Batch, Contrast, plan

contrasts = st.builds(
    lambda prompt, offset: Contrast(tuple(range(1, prompt + offset)), prompt, 7, 8),
    st.integers(1, 60),
    st.integers(1, 20),
)


@given(items=st.lists(contrasts, max_size=40), budget=st.integers(1, 500))
def test_a_plan_covers_all_once_within_the_budget(items: list[Contrast], budget: int) -> None:
    batches = plan(items, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(items)))
    for batch in batches:
        prefix = max(items[i].prompt_length - 1 for i in batch)
        tail = max(items[i].offset for i in batch)
        assert len(batch) == 1 or len(batch) * (prefix + tail) <= budget
    assert plan(items, budget) == batches


@given(items=st.lists(contrasts, min_size=1, max_size=8))
def test_a_batch_holds_each_row_and_nothing_else(items: list[Contrast]) -> None:
    batch = Batch.of(items, torch.device("cpu"))
    assert len(batch) == len(items)
    for row, item in enumerate(items):
        prefix = batch.prefix_ids[row][batch.prefix_mask[row] == 1].tolist()
        tail = batch.tail_ids[row][batch.tail_mask[row] == 1].tolist()
        assert (*prefix, *tail) == item.tokens
        assert batch.prompt_last[row] == len(prefix) == item.prompt_length - 1
        assert batch.offsets[row] == len(tail) == item.offset
        assert batch.contrast_tokens[row].tolist() == [item.target_token, item.base_token]
    if batch.prefix_mask.shape[1]:
        assert (batch.prefix_mask.diff(dim=1) >= 0).all()  # left-padded
    assert (batch.tail_mask.diff(dim=1) <= 0).all()  # right-padded


@pytest.mark.parametrize("offset", [1, 20])
def test_the_offset_counts_from_the_prompts_last_token(offset: int) -> None:
    assert Contrast(tuple(range(10 + offset - 1)), 10, 1, 2).offset == offset
