"""Contrasts as padded batches under a token budget.

The rows of a batch are right-aligned: the last column of each row is the last position that
matters (p+o-1 for a contrast of first differing tokens; p is the index of the prompt's last token).
The columns form three parts:

    shared prefix   computed once for all rows that start with it (shared_prefixes.py)
    middle          the other columns before the tail
    tail            the positions from p on of every row; only the tail carries gradients

Features are read and changed at the *read positions* of the tail:

    last   p
    tail   p and every position after it
    all    every token of the prompt except the BOS token; the tail is then the whole text

Layers that keep more than keys and values (a recurrent state, say) need every column of a row. For
them a batch holds whole texts: no prefix is shared, and rows are left-aligned, so that nothing
comes before a row's first token. No token sees padding then, whatever a model does with masks.

Two rows of a pair share the prompt, so a read position in the prompt is one *pair position*: both
rows hold the same vector there, and its gradient is the sum of the gradients of both rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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

    rows: Int[Tensor, " read"]
    columns: Int[Tensor, " read"]  # counted from the start of the tail, or of a whole text
    pair_positions: Int[Tensor, " read"]
    """The number of each one's pair position, counted over the batch in the order of the pairs."""
    firsts: Int[Tensor, " position"]  # the first read position of each pair position
    counts: tuple[int, ...]  # the number of pair positions of each pair
    positions: tuple[tuple[int, int], ...]
    """Each pair position as (index in its text, 0 or 1 for which text of the pair)."""

    @classmethod
    def of(
        cls,
        contrasts: Sequence[Contrast],
        position: Position,
        tail: int | None,
        device: torch.device,
    ) -> ReadPositions:
        """Find the read positions; `tail` is the number of its columns, None for whole texts."""
        reads: list[tuple[int, int, int]] = []
        positions: list[tuple[int, int]] = []
        counts = []
        row_number = 0
        for contrast in contrasts:
            of_pair: dict[tuple[int, int], int] = {}
            for text, row in enumerate(contrast.rows):
                gap = 0 if tail is None else tail - len(row.tokens)
                for index in _read_indices(contrast, row, position):
                    # Both texts of a pair hold the prompt: its tokens are one position each.
                    key = (index, text if index >= row.prompt_length else 0)
                    number = of_pair.setdefault(key, len(positions) + len(of_pair))
                    reads.append((row_number, index + gap, number))
                row_number += 1
            positions += of_pair
            counts.append(len(of_pair))
        rows, columns, numbers = torch.tensor(reads, device=device).T
        firsts = torch.full((len(positions),), len(reads), device=device)
        order = torch.arange(len(reads), device=device)
        firsts = firsts.scatter_reduce(0, numbers, order, "amin")
        return cls(rows, columns, numbers, firsts, tuple(counts), tuple(positions))

    def of_output(self, x: Float[Tensor, "row column *hook"]) -> tuple[Tensor, Tensor]:
        """Return rows and columns as indices into a hook point's output, on its device."""
        return self.rows.to(x.device), self.columns.to(x.device)


def _read_indices(contrast: Contrast, row: Row, position: Position) -> range:
    last = row.prompt_length - 1
    if position == "last":
        return range(last, last + 1)
    if position == "tail":
        return range(last, len(row.tokens))
    return range(min(int(contrast.bos), last), last + 1)


@dataclass(frozen=True)
class Batch:
    """Contrasts as padded tensors: one row each or, contrasted as sequences, two."""

    prefix_ids: Int[Tensor, "prefix prefix_length"]
    """The shared prefixes, right-padded. Both sizes are 0 when no rows share one."""
    prefix_of_row: Int[Tensor, " row"]
    prefix_columns: Int[Tensor, "row shared"]
    """The index in its prefix of each of a row's shared columns; padding repeats the first."""
    ids: Int[Tensor, "row own"]  # the columns that each row computes by itself, padded
    positions: Int[Tensor, "row own"]
    """The position of each of these columns in the row's own text."""
    mask: Int[Tensor, "row shared+own"]  # 0 for padding before a row, 1 elsewhere
    tail: int  # the number of last columns that decide the metric, or are read
    whole: bool
    """Whether rows are whole texts, left-aligned. Else only the tail carries gradients."""
    read_positions: ReadPositions
    contrast_tokens: Int[Tensor, "row 2"]  # target and base token of each row
    texts: tuple[Row, ...]  # the texts of the rows
    # For sequences: the token that follows each column, and the weight of its log-probability.
    next_tokens: Int[Tensor, "row tail"] | None = None
    weights: Float[Tensor, "row tail"] | None = None

    @classmethod
    def of(
        cls,
        contrasts: Sequence[Contrast],
        device: torch.device,
        position: Position = "last",
        *,
        whole: bool = False,
    ) -> Batch:
        """Pad contrasts, all of first tokens or all of sequences, into one batch."""
        texts = tuple(row for contrast in contrasts for row in contrast.rows)
        rows = [row.tokens for row in texts]
        _, width, tail = shape_of(contrasts, position)
        shared = find_shared_prefixes(rows, width if whole else tail)
        own = width - shared.columns
        prefix_length = max(map(len, shared.tokens), default=0)
        gaps = [0 if whole else width - len(row) for row in rows]
        columns = {
            "prefix_ids": [
                [*prefix, *[0] * (prefix_length - len(prefix))] for prefix in shared.tokens
            ],
            "prefix_of_row": shared.of_row or [0] * len(rows),
            "prefix_columns": [
                [max(0, column - gap) for column in range(shared.columns)] for gap in gaps
            ],
            "ids": [
                [*row, *[0] * (own - len(row))] if whole else [*[0] * (own - len(row)), *row[-own:]]
                for row in rows
            ],
            "positions": [
                [max(0, column - gap) for column in range(shared.columns, width)] for gap in gaps
            ],
            "mask": [[0] * gap + [1] * (width - gap) for gap in gaps],
            "contrast_tokens": [
                (item.target_token, item.base_token) for item in contrasts for _ in item.rows
            ],
        }
        # Without a dtype, an empty list would give floats.
        on_host = {name: torch.tensor(rows, dtype=torch.long) for name, rows in columns.items()}
        if any(row.next_tokens for row in texts):
            following = [[0] * (tail - row.tail) + list(row.next_tokens) for row in texts]
            weights = [
                [0.0] * (tail - row.tail) + [row.sign / row.tail] * row.tail for row in texts
            ]
            on_host |= {"next_tokens": torch.tensor(following), "weights": torch.tensor(weights)}
        if device.type == "cuda":  # pinned: the copy does not wait for the device
            on_host = {name: tensor.pin_memory() for name, tensor in on_host.items()}
        tensors = {name: tensor.to(device, non_blocking=True) for name, tensor in on_host.items()}
        tensors["prefix_ids"] = tensors["prefix_ids"].view(len(shared.tokens), prefix_length)
        reads = ReadPositions.of(contrasts, position, None if whole else tail, device)
        return cls(tail=tail, whole=whole, read_positions=reads, texts=texts, **tensors)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def last_columns(self) -> slice:
        """The columns of `ids` that a pass with gradients computes."""
        return slice(None) if self.whole else slice(-self.tail, None)

    def tails(
        self, hidden: Float[Tensor, "variant column d_model"], rows: Int[Tensor, " variant"]
    ) -> Float[Tensor, "variant tail d_model"]:
        """Return the last columns of the text of some rows, right-aligned."""
        if not self.whole:
            return hidden
        lengths = torch.tensor([len(text.tokens) for text in self.texts], device=rows.device)
        columns = lengths[rows, None] + torch.arange(-self.tail, 0, device=rows.device)
        return hidden[torch.arange(len(rows), device=rows.device)[:, None], columns.clamp(min=0)]


PASS_TOKENS = 256
"""The cost of one more batch, in tokens: its passes, and the prefixes that it computes again."""


def shape_of(contrasts: Sequence[Contrast], position: Position = "last") -> tuple[int, int, int]:
    """Return the number of rows of a batch, of its columns, and of the columns of its tail."""
    rows = [row for contrast in contrasts for row in contrast.rows]
    width = max(len(row.tokens) for row in rows)
    return len(rows), width, width if position == "all" else max(row.tail for row in rows)


def plan(
    contrasts: Sequence[Contrast],
    batch_tokens: int,
    position: Position = "last",
    *,
    whole: bool = False,
) -> list[list[int]]:
    """Group contrasts so that batches have little padding and share long prefixes.

    Sorted by length, batches have the least padding; sorted by their tokens, they share the most.
    The cheaper of these two plans is taken. It depends on the contrasts and the budget alone, never
    on time, memory or finished pairs: so a resumed run makes the same batches and gets the same
    bits.

    Returned are indices into `contrasts`, each in exactly one batch. A contrast of more tokens than
    the budget, padding included, gets a batch of its own.
    """
    orders: tuple[Callable[[int], tuple[object, ...]], ...] = (
        lambda i: (len(contrasts[i].tokens), contrasts[i].tokens, i),
        lambda i: (contrasts[i].tokens, i),
    )
    plans = [
        _cut(sorted(range(len(contrasts)), key=order), contrasts, batch_tokens) for order in orders
    ]

    def cost(batches: list[list[int]]) -> int:
        tokens = [
            computed_tokens([contrasts[i] for i in batch], position, whole=whole)
            for batch in batches
        ]
        return sum(tokens) + PASS_TOKENS * len(batches)

    return min(plans, key=cost)


def _cut(order: Sequence[int], contrasts: Sequence[Contrast], batch_tokens: int) -> list[list[int]]:
    """Cut an order of contrasts into the cheapest batches: their tokens, and PASS_TOKENS each."""
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


def computed_tokens(
    batch: Sequence[Contrast], position: Position = "last", *, whole: bool = False
) -> int:
    """Return the number of tokens that a batch runs through the model, padding included."""
    n_rows, width, tail = shape_of(batch, position)
    if whole:
        return n_rows * width
    return find_shared_prefixes([row.tokens for item in batch for row in item.rows], tail).computed
