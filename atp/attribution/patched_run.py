"""A pair's pass again, from a hook point on, with other values there: what the metric becomes.

Many variants of a pair go through the layers above the hook point at once, on the keys and values
that the pair's own pass has left behind: what comes before the read positions is computed once for
all of them, and what lies below the hook point not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from atp.attribution.metrics import variant_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atp.attribution.capture import Capture, LanguageModel, ResumeState


@dataclass(frozen=True)
class PatchedRun:
    """A pair of a captured batch, ready to be run again.

    Args:
        model: that ran the batch.
        trace: of the batch.
        pair: its number in the batch.
        hook_name: where values are changed.
        chunk_tokens: most tokens of variants in a pass, cached ones included.
    """

    model: LanguageModel
    trace: ResumeState
    pair: int
    hook_name: str
    chunk_tokens: int

    @property
    def places(self) -> int:
        """The number of the pair's places."""
        return self.trace.batch.read_positions.counts[self.pair]

    def chunks(self, variants: int) -> Iterator[slice]:
        """Cut variants into parts that fit into a pass, one more variant with each."""
        widest = max(len(row.tokens) for row in self._rows().values())
        size = max(1, self.chunk_tokens // widest - 1)
        for start in range(0, variants, size):
            yield slice(start, min(start + size, variants))

    def metrics(self, changes: Float[Tensor, "variant place *hook"]) -> Float[Tensor, " variant"]:
        """Return the metric of each variant of the pair.

        Args:
            changes: what is added at the hook point, float32, in its shape or with the same numbers
                in a row. Gradients flow to them where they are on.
        """
        return sum(self._row_metrics(row, changes) for row in self._rows())  # type: ignore[return-value]

    def _rows(self) -> dict[int, Any]:
        """Return the pair's rows, by their number in the batch."""
        texts = self.trace.batch.texts
        each = len(texts) // len(self.trace.batch.read_positions.counts)
        return {row: texts[row] for row in range(self.pair * each, (self.pair + 1) * each)}

    def _row_metrics(
        self, row: int, changes: Float[Tensor, "variant place *hook"]
    ) -> Float[Tensor, " variant"]:
        batch, read_positions = self.trace.batch, self.trace.batch.read_positions
        mine = (read_positions.rows == row).nonzero()[:, 0]
        columns = read_positions.columns[mine]
        places = read_positions.places[mine] - sum(read_positions.counts[: self.pair])
        length = len(batch.texts[row].tokens)
        width = batch.tail - int(columns.min())  # from the first leaf on
        hook = _Changed(columns - (batch.tail - width), changes[:, places])
        layers = self.model.layers_before(self.hook_name)
        entering = self.trace.entering[layers].of_row(row, width) if layers else None
        whole = batch.mask.shape[1]
        with self.model.hooks([(self.hook_name, hook)]):
            hidden = self.model.resume(
                layers,
                entering,
                batch.ids[row : row + 1, -width:],
                batch.mask[row : row + 1, -length:],
                batch.positions[row : row + 1, -width:],
                self.trace.cache.prefix(row, whole - length, whole - width),
            )
        return variant_metrics(self.model.head, hidden, batch, row)


class _Changed:
    """A hook that makes variants of its one row."""

    def __init__(self, columns: Tensor, changes: Tensor) -> None:
        self.columns, self.changes = columns, changes

    def __call__(
        self, x: Float[Tensor, "1 width *hook"], hook: object
    ) -> Float[Tensor, "variant width *hook"]:
        """Return variants of x, each with its own changes added."""
        del hook
        variants = len(self.changes)
        there = x[:, self.columns].detach().float()  # (1, leaf, *hook)
        there = there + self.changes.reshape(variants, *there.shape[1:])
        everywhere = torch.arange(variants, device=x.device)[:, None]
        spread = x.detach().expand(variants, *x.shape[1:]).clone()
        return spread.index_put((everywhere, self.columns[None]), there.to(x.dtype))


def patched_run(
    model: LanguageModel, found: Capture, pair: int, hook_name: str, chunk_tokens: int
) -> PatchedRun:
    """Return a pair of a capture, ready to be run again.

    Args:
        model: that made the capture.
        found: with its trace.
        pair: its number in the capture.
        hook_name: where values are changed; one of the capture's.
        chunk_tokens: most tokens of variants in a pass, cached ones included.
    """
    if found.trace is None:
        msg = "the capture has kept no trace"
        raise ValueError(msg)
    return PatchedRun(model, found.trace, found.first_pair + pair, hook_name, chunk_tokens)
