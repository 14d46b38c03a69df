"""A pair's pass run again from a hook point on, with other values there: how the metric changes.

Many variants of a pair run through the layers above the hook point at once, on the keys and values
that the pair's own pass has kept: columns before the first read position are not computed again,
and neither are the layers below the hook point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from atp.attribution.metrics import variant_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atp.attribution.capture import Capture, ResumeState
    from atp.attribution.language_model import LanguageModel


@dataclass(frozen=True)
class PatchedRun:
    """A pair of a captured batch, ready to be run again."""

    model: LanguageModel
    state: ResumeState
    pair: int  # its number in the batch of `state`
    hook_name: str
    chunk_tokens: int  # most tokens of variants in a pass, cached ones included

    def chunks(self, variants: int) -> Iterator[slice]:
        """Cut variants into parts that fit into a pass, with room for one more variant in each."""
        longest = max(len(self.state.batch.texts[row].tokens) for row in self._rows)
        size = max(1, self.chunk_tokens // longest - 1)
        for start in range(0, variants, size):
            yield slice(start, min(start + size, variants))

    def metrics(
        self, changes: Float[Tensor, "variant position *hook"]
    ) -> Float[Tensor, " variant"]:
        """Return the metric of each variant of the pair.

        The changes are added to the hook point's output at the pair's positions, in its shape or
        flattened, float32. Gradients flow to them where they are enabled.
        """
        of_rows = (self._row_metrics(row, changes) for row in self._rows)
        return sum(of_rows)  # type: ignore[return-value]

    @property
    def _rows(self) -> range:
        """The numbers of the pair's rows in the batch."""
        batch = self.state.batch
        rows_per_pair = len(batch.texts) // len(batch.read_positions.counts)
        return range(self.pair * rows_per_pair, (self.pair + 1) * rows_per_pair)

    def _row_metrics(
        self, row: int, changes: Float[Tensor, "variant position *hook"]
    ) -> Float[Tensor, " variant"]:
        batch, reads = self.state.batch, self.state.batch.read_positions
        of_row = (reads.rows == row).nonzero()[:, 0]
        columns = reads.columns[of_row]
        positions = reads.pair_positions[of_row] - sum(reads.counts[: self.pair])
        length = len(batch.texts[row].tokens)
        width = batch.tail - int(columns.min())  # columns from the first read position on
        hook = _AddChanges(columns - (batch.tail - width), changes[:, positions])
        layers = self.model.layers_before(self.hook_name)
        output = self.state.layer_outputs[layers].of_row(row, width) if layers else None
        all_columns = batch.mask.shape[1]
        with self.model.hooks([(self.hook_name, hook)]):
            hidden = self.model.resume(
                layers,
                output,
                batch.ids[row : row + 1, -width:],
                # One row alone needs no padding: its mask and cache begin at its first token.
                batch.mask[row : row + 1, -length:],
                batch.positions[row : row + 1, -width:],
                self.state.cache.prefix(row, all_columns - length, all_columns - width),
            )
        return variant_metrics(self.model.head, hidden, batch, row)


class _AddChanges:
    """A hook that turns its one row into variants."""

    def __init__(self, columns: Tensor, changes: Tensor) -> None:
        self.columns, self.changes = columns, changes

    def __call__(
        self, x: Float[Tensor, "1 width *hook"], hook: object
    ) -> Float[Tensor, "variant width *hook"]:
        del hook
        variants = len(self.changes)
        changed = x[:, self.columns].detach().float()  # (1, read, *hook)
        changed = changed + self.changes.reshape(variants, *changed.shape[1:])
        every_variant = torch.arange(variants, device=x.device)[:, None]
        copies = x.detach().expand(variants, *x.shape[1:]).clone()
        return copies.index_put((every_variant, self.columns[None]), changed.to(x.dtype))


def patched_run(
    model: LanguageModel, captured: Capture, pair: int, hook_name: str, chunk_tokens: int
) -> PatchedRun:
    """Return a pair of a resumable capture, ready to be run again."""
    if captured.resume_state is None:
        msg = "the capture is not resumable"
        raise ValueError(msg)
    return PatchedRun(
        model, captured.resume_state, captured.first_pair + pair, hook_name, chunk_tokens
    )
