"""The batch plan covers every contrast once, keeps the budget, and depends on nothing else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atp.attribution.batches import Batch, plan
from atp.attribution.contrasts import Contrast

# Few different tokens: many rows begin alike.
contrasts = st.builds(
    lambda tokens, offset: Contrast(tuple(tokens), max(1, len(tokens) - offset + 1), 7, 8),
    st.lists(st.integers(1, 2), min_size=1, max_size=60),
    st.integers(1, 20),
)


@given(items=st.lists(contrasts, max_size=40), budget=st.integers(1, 500))
def test_a_plan_covers_all_once_within_the_budget(items: list[Contrast], budget: int) -> None:
    batches = plan(items, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(items)))
    for batch in batches:
        width = max(len(items[i].tokens) for i in batch)
        assert len(batch) == 1 or len(batch) * width <= budget
    assert plan(items, budget) == batches


def test_a_plan_puts_together_what_shares_most() -> None:
    """Six long texts, each under two opinions of different length that come last."""
    texts = [tuple(range(200 * n, 200 * n + (60, 180)[n % 2])) for n in range(1, 7)]
    items = [Contrast((*text, *range(k)), len(text) + k, 7, 8) for k in (2, 9) for text in texts]
    for batch in plan(items, 400):
        assert len({items[i].tokens[0] for i in batch}) == 1


def test_a_plan_starts_another_batch_rather_than_pad_much() -> None:
    items = [Contrast((n,) * n, n, 7, 8) for n in (50, 52, 54, 500, 510, 520)]
    assert plan(items, 10_000) == [[0, 1, 2], [3, 4, 5]]


@given(items=st.lists(contrasts, min_size=1, max_size=8))
def test_a_batch_holds_each_row_and_nothing_else(items: list[Contrast]) -> None:
    batch = Batch.of(items, torch.device("cpu"))
    assert len(batch) == len(items)
    shared = batch.prefix_columns.shape[1]
    for row, item in enumerate(items):
        gap = batch.mask.shape[1] - len(item.tokens)
        assert batch.mask[row].tolist() == [0] * gap + [1] * len(item.tokens)
        stem = batch.prefix_ids[batch.prefix_of_row[row]] if shared else batch.ids[row, :0]
        tokens = [*stem[batch.prefix_columns[row]].tolist(), *batch.ids[row].tolist()]
        assert tuple(tokens[gap:]) == item.tokens
        steps = [*batch.prefix_columns[row].tolist(), *batch.positions[row].tolist()]
        assert steps[gap:] == list(range(len(item.tokens)))
        assert set(steps[:gap]) <= {0}
        # p is where the prompt ends, in the tail; the tail is among the row's own columns.
        prompt_last = int(batch.read_positions.columns[row])
        column = batch.mask.shape[1] - batch.tail + prompt_last
        assert column - gap == item.prompt_length - 1
        assert 0 <= prompt_last < batch.tail <= batch.ids.shape[1]
        assert batch.contrast_tokens[row].tolist() == [item.target_token, item.base_token]


@pytest.mark.parametrize("offset", [1, 20])
def test_the_offset_counts_from_the_prompts_last_token(offset: int) -> None:
    assert Contrast(tuple(range(10 + offset - 1)), 10, 1, 2).offset == offset
