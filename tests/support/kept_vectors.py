"""The vectors that a run has kept, to compare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from atp.dataset.pairs import PairKey
from atp.vectors.parts import KeyedBatch
from atp.vectors.reader import Vectors


def batches(out: Path) -> list[KeyedBatch]:
    """Return the batches that a run has kept."""
    return [batch for part in Vectors.open(out).parts(lambda _: True) for batch in part.batches]


def numbers(kept: list[KeyedBatch]) -> Iterator[tuple[tuple[PairKey, ...], list[bytes]]]:
    """Yield the pairs of each batch, and the bytes of its vectors, in the order of the input."""
    for keyed in sorted(kept, key=lambda keyed: keyed.keys):
        captured = keyed.batch.captured
        tables = [captured.metric, *captured.residuals.values(), *captured.gradients.values()]
        yield keyed.keys, [table.view(torch.uint8).numpy().tobytes() for table in tables]
