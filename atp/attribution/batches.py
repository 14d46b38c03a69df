"""Contrasts of token ids, and how they are put into padded batches under a token budget.

The rows of a batch are right-aligned: the last column of each is position p+o-1, which predicts the
first differing token. p is the index of the prompt's last token, o the offset of that token. The
columns fall into three parts: those taken from stems (what rows share at their start), the middle,
and the tail, wide enough to hold positions p..p+o-1 of every row; only the tail carries gradients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from atp.attribution.stems import find_stems

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Contrast:
    """The token ids of one pair, as far as they matter."""

    tokens: tuple[int, ...]
    """Prompt and response up to the token before the first differing one: positions 0..p+o-1."""
    prompt_length: int
    """Number of prompt tokens, p + 1."""
    target_token: int
    """The sycophantic answer's token at p + o."""
    base_token: int
    """The neutral answer's token there."""

    @property
    def offset(self) -> int:
        """O >= 1: the position of the differing token, counted from the prompt's last token."""
        return len(self.tokens) - self.prompt_length + 1


@dataclass(frozen=True)
class Batch:
    """Contrasts as padded tensors."""

    stem_ids: Int[Tensor, "stem stem_length"]
    """Right-padded; each stem is computed once. Both sizes are 0 when nothing is shared."""
    stem_of_row: Int[Tensor, " batch"]
    stem_columns: Int[Tensor, "batch shared"]
    """Which position of its stem a row has in each column; padding repeats the first."""
    ids: Int[Tensor, "batch own"]
    """The columns that each row computes by itself, left-padded."""
    positions: Int[Tensor, "batch own"]
    """The position of each of them in its own text."""
    mask: Int[Tensor, "batch shared+own"]
    """1 for real tokens."""
    tail: int
    """How many of the last columns carry gradients."""
    prompt_last: Int[Tensor, " batch"]
    """The column of p, counted from the start of the tail."""
    contrast_tokens: Int[Tensor, "batch 2"]
    """Target and base token of each row."""

    @classmethod
    def of(cls, contrasts: Sequence[Contrast], device: torch.device) -> Batch:
        """Pad `contrasts` into one batch."""
        rows = [contrast.tokens for contrast in contrasts]
        width, tail = _shape(contrasts)
        stems = find_stems(rows, tail)
        own = width - stems.columns
        stem_length = max(map(len, stems.tokens), default=0)
        gaps = [width - len(row) for row in rows]
        columns = {
            "stem_ids": [[*stem, *[0] * (stem_length - len(stem))] for stem in stems.tokens],
            "stem_of_row": stems.of_row or [0] * len(rows),
            "stem_columns": [
                [max(0, column - gap) for column in range(stems.columns)] for gap in gaps
            ],
            "ids": [[*[0] * (own - len(row)), *row[-own:]] for row in rows],
            "positions": [
                [max(0, column - gap) for column in range(stems.columns, width)] for gap in gaps
            ],
            "mask": [[0] * gap + [1] * (width - gap) for gap in gaps],
            "prompt_last": [tail - contrast.offset for contrast in contrasts],
            "contrast_tokens": [(item.target_token, item.base_token) for item in contrasts],
        }
        # Without a dtype, an empty list would give floats.
        on_host = {name: torch.tensor(rows, dtype=torch.long) for name, rows in columns.items()}
        if device.type == "cuda":  # pinned: the copy does not wait for the device
            on_host = {name: tensor.pin_memory() for name, tensor in on_host.items()}
        there = {name: tensor.to(device, non_blocking=True) for name, tensor in on_host.items()}
        there["stem_ids"] = there["stem_ids"].view(len(stems.tokens), stem_length)
        return cls(tail=tail, **there)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ids)


PASS_TOKENS = 256
"""What a further batch costs, in tokens: its passes, and the stems that it computes again."""


def _shape(contrasts: Sequence[Contrast]) -> tuple[int, int]:
    """Return the columns of a batch, and how many of them are the tail."""
    width = max(len(contrast.tokens) for contrast in contrasts)
    return width, max(contrast.offset for contrast in contrasts)


def plan(contrasts: Sequence[Contrast], batch_tokens: int) -> list[list[int]]:
    """Group contrasts so that little is padding and much is shared.

    Sorted by length, batches have the least padding; sorted by their tokens, they share the most.
    Whichever leaves fewer tokens to compute is taken. The plan depends on the contrasts and the
    budget alone: never on time, memory or what is done.

    Args:
        contrasts: a window of the input, in input order.
        batch_tokens: most tokens in a batch, padding included; a longer contrast goes alone.

    Returns:
        Indices into `contrasts`, each in exactly one batch.
    """
    orders: tuple[Callable[[int], tuple[object, ...]], ...] = (
        lambda i: (len(contrasts[i].tokens), contrasts[i].tokens, i),
        lambda i: (contrasts[i].tokens, i),
    )
    plans = [
        _cut(sorted(range(len(contrasts)), key=order), contrasts, batch_tokens) for order in orders
    ]
    return min(plans, key=partial(_cost, contrasts))


def _cut(order: Sequence[int], contrasts: Sequence[Contrast], batch_tokens: int) -> list[list[int]]:
    """Cut an order of contrasts into the batches that cost least, each within the budget.

    A batch costs its tokens, padding included, and what starting a pass costs.
    """
    widths = [len(contrasts[index].tokens) for index in order]
    cheapest = [0.0]  # cost of the first n contrasts
    starts: list[int] = []  # where the last batch of the first n begins
    for end in range(1, len(order) + 1):
        best, best_start, width = math.inf, end - 1, 0
        for start in range(end - 1, -1, -1):
            width = max(width, widths[start])
            tokens = (end - start) * width
            if tokens > batch_tokens and start < end - 1:
                break
            if (cost := cheapest[start] + tokens + PASS_TOKENS) < best:
                best, best_start = cost, start
        cheapest.append(best)
        starts.append(best_start)
    batches = []
    end = len(order)
    while end:
        batches.append(list(order[starts[end - 1] : end]))
        end = starts[end - 1]
    return batches[::-1]


def _cost(contrasts: Sequence[Contrast], batches: Sequence[Sequence[int]]) -> int:
    """Return what a plan costs, in tokens: those it runs through the model, and its passes."""
    return sum(PASS_TOKENS + computed_tokens([contrasts[i] for i in batch]) for batch in batches)


def computed_tokens(batch: Sequence[Contrast]) -> int:
    """Return how many tokens a batch runs through the model, padding included."""
    return find_stems([item.tokens for item in batch], _shape(batch)[1]).computed
