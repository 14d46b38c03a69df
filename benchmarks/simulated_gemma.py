"""Counts the memory and FLOPs of passes: of atp, of the notebook's procedure, and of a bare pass.

If everything is made and used in a FakeTensorMode, the model may have any size: fake tensors have
shapes and no memory, and nothing is computed.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from live_bytes import LiveBytes
from random_gemma import bridged, causal_lm, random_saes
from torch._subclasses.fake_tensor import DataDependentOutputException

from atp.attribution.batches import Batch
from atp.attribution.capture import capture
from atp.attribution.contrasts import Contrast
from atp.bench.notebook import Notebook, layers_of
from atp.model.head import TokenHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from random_gemma import Size
    from torch import Tensor
    from transformers import PreTrainedModel

    from atp.model.language_model import Model

OFFSET = 20
"""Position of the first differing token: the most tokens that can carry gradients."""
RESPONSE = 250


def hook_names(layers: Sequence[int]) -> list[str]:
    """Return the hook points after layers."""
    return [f"blocks.{layer}.hook_resid_post" for layer in layers]


def contrasts(pairs: Sequence[tuple[int, int]]) -> list[Contrast]:
    """Return a contrast for each (prompt tokens, offset); they share only <bos>."""
    return [
        Contrast((2, 100 + row, *[5] * (prompt + offset - 3)), prompt, 3, 4)
        for row, (prompt, offset) in enumerate(pairs)
    ]


@dataclass(frozen=True)
class Pass:
    """Bytes of one capture beyond the weights, at its peak."""

    peak: int
    cache: int
    """Keys and values that outlive the pass over the prefix."""
    saved: int
    """Tensors that outlive the tail's forward pass, saved for the backward pass."""
    tokens: int
    """Tokens of the batch, padding included."""

    @property
    def at_work(self) -> int:
        """All other bytes."""
        return self.peak - self.cache - self.saved


class _Watched:
    """A model for `capture` that records when its passes ended."""

    def __init__(self, model: Model, live: LiveBytes) -> None:
        self.model, self.live = model, live
        self.fill_prefix = self.forward = 0
        self.head, self.device = model.head, model.device
        self.new_cache, self.hooks, self.recorded_layers = (
            model.new_cache,
            model.hooks,
            model.recorded_layers,
        )
        self.layers_before, self.layers_through = model.layers_before, model.layers_through
        self.resume, self.keeps_all_keys = model.resume, model.keeps_all_keys

    def fill(self, cache: Any, ids: Tensor, mask: Tensor, positions: Tensor) -> None:  # noqa: ANN401
        self.model.fill(cache, ids, mask, positions)
        self.fill_prefix = self.live.now

    def hidden(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:  # noqa: ANN401
        hidden = self.model.hidden(ids, mask, positions, cache)
        self.forward = self.live.now
        return hidden


def counted(model: Model, rows: Sequence[Contrast], layers: Sequence[int]) -> Pass:
    """Count one capture of a batch."""
    batch = Batch.of(rows, model.device)
    with LiveBytes() as live:
        watched = _Watched(model, live)
        capture(watched, batch, hook_names(layers))
    at_peak = live.at_peak()
    cache, saved = (
        sum(item.size for item in at_peak if start < item.made <= end < item.freed)
        for start, end in ((0, watched.fill_prefix), (watched.fill_prefix, watched.forward))
    )
    return Pass(live.peak, cache, saved, batch.mask.numel())


class Simulation:
    """The model behind its bridge, the plain one, and SAEs."""

    def __init__(self, size: Size) -> None:
        with patch.object(
            TokenHead, "check_logits"
        ):  # it compares numbers, which fake tensors lack
            self.model = bridged(causal_lm(size, torch.device("cpu"), torch.bfloat16))
        self.plain: PreTrainedModel = causal_lm(size, torch.device("cpu"), torch.bfloat16)
        self.weights = sum(parameter.nbytes for parameter in self.plain.parameters())
        saes = random_saes(self.model, size, size.narrow, contrasts([(2, 1)]))
        self.saes = dict(zip(size.layers, saes, strict=True))

    def notebook(self, layer: int, prompt: int) -> LiveBytes:
        """Count the notebook's procedure on a prompt of `prompt` tokens and a response."""
        procedure = Notebook(
            self.plain, self.model.tokenizer, self.saes[layer].sae, layers_of(self.plain)[layer]
        )
        texts = " w1" * (prompt - 1), " w1" * RESPONSE, " w1" * (OFFSET - 1) + " w2"
        # It ends by reading the metric, and a fake tensor has no number.
        with LiveBytes() as live, suppress(DataDependentOutputException):
            procedure(*texts)
        return live

    @torch.no_grad()
    def bare(self, tokens: int) -> LiveBytes:
        """Count a forward pass over one row, without gradients and logits."""
        ids = torch.zeros(1, tokens, dtype=torch.long)
        with LiveBytes() as live:
            self.plain.base_model(ids, use_cache=False)
        return live
