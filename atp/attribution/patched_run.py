"""Pairs of a pass run again with other values at some hook points: how m changes.

Many variants of many pairs run through the layers above these points at once, on the keys and
values that the first pass has kept: columns before the read positions are not computed again, and
neither are the layers below the lowest hook point. Without a cache, all columns of a text are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from atp.attribution.batches import PASS_TOKENS
from atp.attribution.metrics import variant_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from atp.attribution.capture import Capture, ResumeState
    from atp.attribution.language_model import LanguageModel

CACHED_COLUMNS = 4
"""So many cached columns of a variant are counted as one token: while a layer runs, each holds keys
and values, where a token also holds what its MLP computes."""


@dataclass(frozen=True)
class PatchedRun:
    """The pairs of a resumable capture, ready to be run again; each has as many read positions."""

    model: LanguageModel
    captured: Capture
    hook_names: tuple[str, ...]  # the lowest is first
    chunk_tokens: int  # most tokens of variants in a pass

    @cached_property
    def state(self) -> ResumeState:
        """The state of the capture's pass."""
        if self.captured.resume_state is None:
            msg = "the capture is not resumable"
            raise ValueError(msg)
        return self.captured.resume_state

    def text(self, pair: int) -> tuple[int, ...]:
        """Return the tokens of a pair's first text."""
        row = (self.captured.first_pair + pair) * self._rows_per_pair
        return self.state.batch.texts[row].tokens

    def chunks(self, pairs: Sequence[int], limit: int) -> Iterator[list[int]]:
        """Cut variants into passes that fit; yields their indices.

        `pairs` says of which pair each variant is. A pass has room for one more variant of each of
        its pairs, and holds at most `limit` variants with these, but at least one.
        """
        shapes = [self._shape(pair) for pair in range(len(self.captured.counts))]
        chunk: list[int] = []
        width = length = rows = padding = 0  # of the pass so far
        for index in sorted(range(len(pairs)), key=lambda i: (shapes[pairs[i]], pairs[i])):
            own_width, own_length = shapes[pairs[index]]
            new = 1 if chunk and pairs[chunk[-1]] == pairs[index] else 2
            wider, longer = max(width, own_width), max(length, own_length)
            tokens = (rows + new) * (wider + (longer - wider) // CACHED_COLUMNS)
            padding += rows * (wider - width)
            full = tokens * self._rows_per_pair > self.chunk_tokens or rows + new > limit
            if chunk and (full or padding * self._rows_per_pair > PASS_TOKENS):
                yield chunk
                chunk, rows, padding, new, wider, longer = [], 0, 0, 2, own_width, own_length
            chunk.append(index)
            rows, width, length = rows + new, wider, longer
        if chunk:
            yield chunk

    def metrics(
        self, pairs: Int[Tensor, " variant"], changes: Float[Tensor, "variant position *hooks"]
    ) -> Float[Tensor, " variant"]:
        """Return the metric of each variant of a pair.

        The changes are added to the outputs of the hook points at the pair's positions: those of
        several points side by side, float32. Gradients flow to them where they are enabled.
        """
        batch, reads, device = self.state.batch, self.state.batch.read_positions, pairs.device
        per_pair = self._rows_per_pair
        in_batch = pairs + self.captured.first_pair
        rows = (in_batch[:, None] * per_pair + torch.arange(per_pair, device=device)).flatten()
        shapes = [self._shape(pair) for pair in set(pairs.tolist())]
        width, length = (max(sizes) for sizes in zip(*shapes, strict=True))
        # Of the read positions, those in these rows: each with its variant, row and position.
        at = (rows[:, None] == reads.rows).nonzero()  # (n, 2): row of this pass, read position
        first = torch.tensor([0, *reads.counts], device=device).cumsum(0)
        of_variant = at[:, 0] // per_pair
        position = reads.pair_positions[at[:, 1]] - first[in_batch[of_variant]]
        cache, columns = self.state.cache, reads.columns[at[:, 1]]
        if cache is None:  # whole texts, left-aligned
            new = seen = slice(width)
        else:
            # The longest row needs no padding: masks and caches begin at its first token.
            new, seen = slice(-width, None), slice(-length, None)
            end = batch.mask.shape[1]
            cache = cache.of_rows(rows, end - length, end - width)
            columns = columns - (batch.tail - width)
        sizes = [self.captured.residuals[name][0].numel() for name in self.hook_names]
        parts = torch.split(changes[of_variant, position].flatten(1), sizes, dim=1)
        hooks = [_AddChanges(at[:, 0], columns, part) for part in parts]
        layers = self.model.layers_before(self.hook_names[0])
        output = self.state.layer_outputs[layers].of_rows(rows, new) if layers else None
        with self.model.hooks(zip(self.hook_names, hooks, strict=True)):
            hidden = self.model.resume(
                layers,
                output,
                batch.ids[rows, new],
                batch.mask[rows, seen],
                batch.positions[rows, new],
                cache,
            )
        of_rows = variant_metrics(self.model.head, batch.tails(hidden, rows), batch, rows)
        return of_rows.view(len(pairs), per_pair).sum(dim=1)

    @cached_property
    def _rows_per_pair(self) -> int:
        batch = self.state.batch
        return len(batch.texts) // len(batch.read_positions.counts)

    @cached_property
    def _shapes(self) -> list[tuple[int, int]]:
        """Of each pair of the batch: columns to compute, and tokens.

        A cache holds the columns before the first read position.
        """
        batch, reads = self.state.batch, self.state.batch.read_positions
        first_columns = [batch.tail] * len(batch.texts)
        for row, column in zip(reads.rows.tolist(), reads.columns.tolist(), strict=True):
            first_columns[row] = min(first_columns[row], column)
        lengths = [len(text.tokens) for text in batch.texts]
        widths = [batch.tail - column for column in first_columns]
        if batch.whole:
            widths = lengths
        n = self._rows_per_pair
        return [
            (max(widths[row : row + n]), max(lengths[row : row + n]))
            for row in range(0, len(lengths), n)
        ]

    def _shape(self, pair: int) -> tuple[int, int]:
        return self._shapes[self.captured.first_pair + pair]


class _AddChanges:
    """A hook that adds a change at each of some places."""

    def __init__(self, rows: Tensor, columns: Tensor, changes: Tensor) -> None:
        self.where, self.changes = (rows, columns), changes

    def __call__(
        self, x: Float[Tensor, "row width *hook"], hook: object
    ) -> Float[Tensor, "row width *hook"]:
        del hook
        where = tuple(index.to(x.device) for index in self.where)
        before = x[where].float()  # (change, *hook)
        changes = self.changes.to(x.device).view_as(before)
        return x.index_put(where, (before + changes).to(x.dtype))
