"""Contrasts as padded batches under a token budget.

The rows of a batch are right-aligned: the last column of each is the last position that matters,
p+o-1 of a contrast of first differing tokens. p is the index of the prompt's last token. The
columns fall into three parts: those taken from stems (what rows share at their start), the middle,
and the tail, wide enough to hold the positions from p on of every row; only the tail carries
gradients.

Features are read and changed at the *read positions* of the tail:

    last   p
    tail   p and every position after it
    all    every token of the prompt, but the BOS token; then the tail is the whole text

Two rows of a pair share the prompt, so that a leaf there is one *place* of the pair: what stands
there is the same in both, and its gradient is the sum of both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from atp.attribution.shared_prefixes import find_shared_prefixes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from atp.attribution.contrasts import Contrast, Position, Row


@dataclass(frozen=True)
class ReadPositions:
    """Where in a batch features are read."""

    rows: Int[Tensor, " leaf"]
    columns: Int[Tensor, " leaf"]
    """Counted from the start of the tail."""
    places: Int[Tensor, " leaf"]
    """Which place of the batch each one is."""
    firsts: Int[Tensor, " place"]
    """The first leaf of each place."""
    counts: tuple[int, ...]
    """The places of each pair; they stand in the order of the pairs."""
    positions: tuple[tuple[int, int], ...]
    """Of each place, its position in its text, and which of the pair's texts that is."""

    @classmethod
    def of(
        cls, contrasts: Sequence[Contrast], position: Position, tail: int, device: torch.device
    ) -> ReadPositions:
        """Find the read positions of a batch whose tail has so many columns."""
        read_positions: list[tuple[int, int, int]] = []
        found: list[tuple[int, int]] = []
        counts = []
        number = 0
        for contrast in contrasts:
            places: dict[tuple[int, int], int] = {}
            for side, row in enumerate(contrast.rows):
                gap = tail - len(row.tokens)
                for at in _positions(contrast, row, position):
                    # What both texts have in common is one place.
                    key = (at, side if at >= row.prompt_length else 0)
                    place = places.setdefault(key, len(found) + len(places))
                    read_positions.append((number, at + gap, place))
                number += 1
            found += places
            counts.append(len(places))
        rows, columns, places_of = torch.tensor(read_positions, device=device).T
        firsts = torch.full((len(found),), len(read_positions), device=device)
        order = torch.arange(len(read_positions), device=device)
        firsts = firsts.scatter_reduce(0, places_of, order, "amin")
        return cls(rows, columns, places_of, firsts, tuple(counts), tuple(found))


def _positions(contrast: Contrast, row: Row, position: Position) -> range:
    last = row.prompt_length - 1
    if position == "last":
        return range(last, last + 1)
    if position == "tail":
        return range(last, len(row.tokens))
    return range(min(int(contrast.bos), last), last + 1)


@dataclass(frozen=True)
class Batch:
    """Contrasts as padded tensors; each has one row or, contrasted as sequences, two."""

    prefix_ids: Int[Tensor, "stem stem_length"]
    """Right-padded; each stem is computed once. Both sizes are 0 when nothing is shared."""
    prefix_of_row: Int[Tensor, " row"]
    prefix_columns: Int[Tensor, "row shared"]
    """Which position of its stem a row has in each column; padding repeats the first."""
    ids: Int[Tensor, "row own"]
    """The columns that each row computes by itself, left-padded."""
    positions: Int[Tensor, "row own"]
    """The position of each of them in its own text."""
    mask: Int[Tensor, "row shared+own"]
    """1 for real tokens."""
    tail: int
    """How many of the last columns carry gradients."""
    read_positions: ReadPositions
    contrast_tokens: Int[Tensor, "row 2"]
    """Target and base token of each row."""
    texts: tuple[Row, ...]
    """What the rows were made of."""
    next_tokens: Int[Tensor, "row tail"] | None = None
    """Of sequences: the token that follows each column."""
    weights: Float[Tensor, "row tail"] | None = None
    """Of sequences: what its log-probability counts in the metric."""

    @classmethod
    def of(
        cls, contrasts: Sequence[Contrast], device: torch.device, position: Position = "last"
    ) -> Batch:
        """Pad `contrasts` into one batch.

        Args:
            contrasts: all of first tokens, or all of sequences.
            device: where the tensors go.
            position: where features are read.
        """
        texts = tuple(row for contrast in contrasts for row in contrast.rows)
        rows = [row.tokens for row in texts]
        _, width, tail = shape_of(contrasts, position)
        stems = find_shared_prefixes(rows, tail)
        own = width - stems.columns
        stem_length = max(map(len, stems.tokens), default=0)
        gaps = [width - len(row) for row in rows]
        columns = {
            "prefix_ids": [[*stem, *[0] * (stem_length - len(stem))] for stem in stems.tokens],
            "prefix_of_row": stems.of_row or [0] * len(rows),
            "prefix_columns": [
                [max(0, column - gap) for column in range(stems.columns)] for gap in gaps
            ],
            "ids": [[*[0] * (own - len(row)), *row[-own:]] for row in rows],
            "positions": [
                [max(0, column - gap) for column in range(stems.columns, width)] for gap in gaps
            ],
            "mask": [[0] * gap + [1] * (width - gap) for gap in gaps],
            "contrast_tokens": [
                (item.target_token, item.base_token) for item in contrasts for _ in item.rows
            ],
        }
        # Without a dtype, an empty list would give floats.
        on_host = {name: torch.tensor(rows, dtype=torch.long) for name, rows in columns.items()}
        if any(row.next_tokens for row in texts):
            followed = [[0] * (tail - row.tail) + list(row.next_tokens) for row in texts]
            shares = [[0.0] * (tail - row.tail) + [row.sign / row.tail] * row.tail for row in texts]
            on_host |= {"next_tokens": torch.tensor(followed), "weights": torch.tensor(shares)}
        if device.type == "cuda":  # pinned: the copy does not wait for the device
            on_host = {name: tensor.pin_memory() for name, tensor in on_host.items()}
        there = {name: tensor.to(device, non_blocking=True) for name, tensor in on_host.items()}
        there["prefix_ids"] = there["prefix_ids"].view(len(stems.tokens), stem_length)
        read_positions = ReadPositions.of(contrasts, position, tail, device)
        return cls(tail=tail, read_positions=read_positions, texts=texts, **there)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ids)


PASS_TOKENS = 256
"""What a further batch costs, in tokens: its passes, and the stems that it computes again."""


def shape_of(contrasts: Sequence[Contrast], position: Position = "last") -> tuple[int, int, int]:
    """Return the rows of a batch, its columns, and how many of these are the tail."""
    rows = [row for contrast in contrasts for row in contrast.rows]
    width = max(len(row.tokens) for row in rows)
    return len(rows), width, width if position == "all" else max(row.tail for row in rows)


def plan(
    contrasts: Sequence[Contrast], batch_tokens: int, position: Position = "last"
) -> list[list[int]]:
    """Group contrasts so that little is padding and much is shared.

    Sorted by length, batches have the least padding; sorted by their tokens, they share the most.
    Whichever leaves fewer tokens to compute is taken. The plan depends on the contrasts and the
    budget alone: never on time, memory or what is done.

    Args:
        contrasts: a window of the input, in input order.
        batch_tokens: most tokens in a batch, padding included; a longer contrast goes alone.
        position: where features are read.

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
    return min(plans, key=partial(_cost, contrasts, position))


def _cut(order: Sequence[int], contrasts: Sequence[Contrast], batch_tokens: int) -> list[list[int]]:
    """Cut an order of contrasts into the batches that cost least, each within the budget.

    A batch costs its tokens, padding included, and what starting a pass costs.
    """
    sizes = [[len(row.tokens) for row in contrasts[index].rows] for index in order]
    widths = [max(lengths) for lengths in sizes]
    rows = max(map(len, sizes), default=1)  # of a contrast
    cheapest = [0.0]  # cost of the first n contrasts
    starts: list[int] = []  # where the last batch of the first n begins
    for end in range(1, len(order) + 1):
        best, best_start, width = math.inf, end - 1, 0
        for start in range(end - 1, -1, -1):
            width = max(width, widths[start])
            tokens = (end - start) * rows * width
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


def _cost(
    contrasts: Sequence[Contrast], position: Position, batches: Sequence[Sequence[int]]
) -> int:
    """Return what a plan costs, in tokens: those it runs through the model, and its passes."""
    return sum(
        PASS_TOKENS + computed_tokens([contrasts[i] for i in batch], position) for batch in batches
    )


def computed_tokens(batch: Sequence[Contrast], position: Position = "last") -> int:
    """Return how many tokens a batch runs through the model, padding included."""
    rows = [row.tokens for item in batch for row in item.rows]
    return find_shared_prefixes(rows, shape_of(batch, position)[2]).computed
