"""Captured batches survive the way through a part's file, to the bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from atp.attribution.capture import Capture
from atp.attribution.contrasts import Contrast
from atp.dataset.pairs import PairKey
from atp.model.pair_tokenizer import TokenizedPair
from atp.scoring.scorer import CapturedBatch
from atp.vectors.parts import KeyedBatch, Part, decoded, encoded, portable

READ, WRITTEN = "blocks.1.mlp.hook_in", "blocks.1.hook_mlp_out"


def batch(dtype: torch.dtype = torch.float32, *, pairs: int = 3) -> CapturedBatch:
    """Return a batch of made-up numbers, with two positions of each pair."""
    generator = torch.Generator().manual_seed(pairs)

    def table(rows: int) -> torch.Tensor:
        return torch.randn(rows, 4, generator=generator).to(dtype)

    contrasts = [
        Contrast((1, 5, number), 2, 7, 8, ((7, 9), (8,)) if number else None, bos=True)
        for number in range(pairs)
    ]
    capture = Capture(
        torch.randn(pairs, generator=generator),
        {READ: table(2 * pairs), WRITTEN: table(2 * pairs)},
        {WRITTEN: table(2 * pairs)},
        (2,) * pairs,
        tuple((position, 0) for _ in range(pairs) for position in (1, 2)),
    )
    tokenized = [TokenizedPair(each, " ja", "né", "joint", (1, 5)) for each in contrasts]
    return CapturedBatch(tokenized, capture, {READ: table(pairs)})


def keyed(of: CapturedBatch) -> KeyedBatch:
    """Return a batch with places for its pairs."""
    return KeyedBatch(tuple(PairKey(3, number) for number in range(len(of.pairs))), of)


def bits(of: CapturedBatch) -> list[tuple[str, torch.dtype, bytes]]:
    """Return the numbers of a batch with their names, in order."""
    captured = of.captured
    named = [("metric", captured.metric), *captured.residuals.items()]
    named += [*captured.gradients.items(), *(of.base_residuals or {}).items()]
    return [
        (name, tensor.dtype, tensor.contiguous().view(torch.uint8).numpy().tobytes())
        for name, tensor in named
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batches_come_back_as_they_were(dtype: torch.dtype) -> None:
    batches = [
        keyed(portable(batch(dtype), "float32")),
        keyed(portable(batch(dtype, pairs=1), "float32")),
    ]
    part = Part(batches, {WRITTEN: torch.rand(4)}, {5: " ja", 9: "<0xE6>"})
    back = decoded(encoded(part))
    for before, after in zip(batches, back.batches, strict=True):
        assert after.keys == before.keys
        assert list(after.batch.pairs) == list(before.batch.pairs)
        assert bits(after.batch) == bits(before.batch)
        assert after.batch.captured.counts == before.batch.captured.counts
        assert after.batch.captured.positions == before.batch.captured.positions
    assert torch.equal(back.norm_weights[WRITTEN], part.norm_weights[WRITTEN])
    assert back.token_texts == part.token_texts
    assert encoded(back) == encoded(part)


def test_only_wider_vectors_are_rounded_and_they_come_back_in_the_models_type() -> None:
    of = batch()
    narrow = portable(of, "bfloat16")
    assert narrow.captured.residuals[READ].dtype is torch.bfloat16
    assert torch.equal(narrow.captured.metric, of.captured.metric)
    back = decoded(encoded(Part([keyed(narrow)], {})), torch.float32).batches[0].batch
    assert torch.equal(
        back.captured.gradients[WRITTEN], of.captured.gradients[WRITTEN].bfloat16().float()
    )
    exact = portable(batch(torch.bfloat16), "float32")
    assert exact.captured.residuals[READ].dtype is torch.bfloat16


def test_a_part_of_a_batch_is_kept_without_the_rest() -> None:
    of = batch(pairs=4)
    first, _ = of.halves()
    kept = portable(first, "float32")
    residuals = kept.captured.residuals[READ]
    assert residuals.untyped_storage().nbytes() == residuals.nbytes
    assert bits(portable(replace(first), "float32")) == bits(kept)
    assert len(encoded(Part([keyed(kept)], {}))) < len(
        encoded(Part([keyed(portable(of, "float32"))], {}))
    )
