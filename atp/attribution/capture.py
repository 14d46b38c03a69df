"""One forward and one backward pass: the metric m, the residual x and the gradient g = dm/dx.

    m = logit_t - logit_b   at position p+o-1, the one that predicts the first differing token
    x = the hook point's output at position p, the prompt's last token
    g = dm/dx at position p

Attention is causal, so nothing after p+o-1 can change m and nothing before p depends on x: the
prefix 0..p-1 runs without gradient and leaves its keys and values behind, the tail p..p+o-1 runs
with gradient on top of them. The numbers are those of one pass over the whole text.

To read g at a hook point, a zero vector d is added there at position p; dm/dd at d = 0 is g. That
leaves the forward value as it is, works at any hook point and at several at once (each gradient is
the total derivative, the others' zeros included), and keeps only position p as a leaf.

Attribution patching: Nanda 2023, https://www.neelnanda.io/mechanistic-interpretability/attribution-patching
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from atp.attribution.batches import Batch, Contrast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager


@runtime_checkable
class LanguageModel(Protocol):
    """What capturing needs of a model; `atp.model.loading.Model` is one."""

    @property
    def head(self) -> Head:
        """The unembedding of chosen tokens."""

    @property
    def device(self) -> torch.device:
        """Where batches go."""

    def new_cache(self) -> Any:  # noqa: ANN401  (a Hugging Face cache)
        """Return an empty key-value cache."""

    def hidden(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:  # noqa: ANN401
        """Return the final hidden state of new tokens after cached ones; None is no cache."""

    def hooks(
        self, hooks: Iterable[tuple[str, Callable[..., Tensor]]]
    ) -> AbstractContextManager[Any]:
        """Return a context in which the hooks are active."""


@runtime_checkable
class Head(Protocol):
    """The unembedding of chosen tokens."""

    def logits(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Return float32 logits, (batch, n), of tokens (batch, n) at hidden (batch, d_model)."""


class HookError(Exception):
    """A hook point did not fire exactly once in a pass."""


class SplitError(Exception):
    """This model's prefix and tail are not one pass over the whole text."""


@dataclass(frozen=True)
class Capture:
    """What one pass over a batch gives."""

    metric: Float[Tensor, " batch"]
    """logit_t - logit_b, float32."""
    residuals: dict[str, Float[Tensor, " batch *hook"]]
    """x at each hook point, in the hook point's shape and the model's dtype."""
    gradients: dict[str, Float[Tensor, " batch *hook"]]
    """g at each hook point, shaped like x."""


class _Probe:
    """A hook that adds a zero vector at position p, and keeps it and what was there."""

    def __init__(self) -> None:
        self.calls = 0
        self.residual = self.zero = torch.empty(0)  # filled by the one call

    def __call__(
        self, x: Float[Tensor, "batch tail *hook"], hook: object
    ) -> Float[Tensor, "batch tail *hook"]:
        """Return `x` with the zero added at the first position of the tail."""
        del hook
        self.calls += 1
        first = x[:, :1]
        self.residual = first[:, 0].detach()
        self.zero = torch.zeros_like(first, requires_grad=True)
        return torch.cat([first + self.zero, x[:, 1:]], dim=1)


def capture(model: LanguageModel, batch: Batch, hook_names: Sequence[str]) -> Capture:
    """Run one forward and one backward pass over a batch.

    Args:
        model: a frozen language model.
        batch: padded contrasts on the model's device.
        hook_names: where to read x and g; each name once.

    Raises:
        HookError: a hook point did not fire exactly once.
    """
    cache = _read_prefix(model, batch)
    probes = {name: _Probe() for name in hook_names}
    mask = torch.cat([batch.prefix_mask, batch.tail_mask], dim=1)
    steps = torch.arange(batch.tail_ids.shape[1], device=batch.tail_ids.device)
    positions = batch.prompt_last[:, None] + steps * batch.tail_mask
    with torch.enable_grad(), model.hooks(list(probes.items())):
        hidden = model.hidden(batch.tail_ids, mask, positions, cache)  # (batch, tail, d_model)
        rows = torch.arange(len(batch), device=hidden.device)
        predicting = hidden[rows, batch.offsets - 1]  # (batch, d_model)
        logits = model.head.logits(predicting, batch.contrast_tokens)  # (batch, 2)
        metric = logits[:, 0] - logits[:, 1]
        for name, probe in probes.items():
            if probe.calls != 1:
                msg = f"the hook point {name} fired {probe.calls} times in one pass, not once"
                raise HookError(msg)
        # Rows do not see each other, so the gradient of the sum holds every row's own gradient.
        zeros = [probe.zero for probe in probes.values()]
        gradients = torch.autograd.grad(metric.sum(), zeros) if zeros else ()
    return Capture(
        metric.detach(),
        {name: probe.residual for name, probe in probes.items()},
        {name: gradient[:, 0] for name, gradient in zip(probes, gradients, strict=True)},
    )


@torch.no_grad()
def _read_prefix(model: LanguageModel, batch: Batch) -> Any:  # noqa: ANN401
    """Return a cache with the keys and values of positions 0..p-1."""
    cache = model.new_cache()
    if batch.prefix_ids.shape[1]:
        positions = (batch.prefix_mask.cumsum(dim=1) - 1).clamp(min=0)
        model.hidden(batch.prefix_ids, batch.prefix_mask, positions, cache)
    return cache


PROBES = (
    Contrast(tokens=(1, 2, 3, 4, 7, 8), prompt_length=4, target_token=5, base_token=6),
    Contrast(tokens=(2, 3), prompt_length=2, target_token=5, base_token=6),
)


def prove(model: LanguageModel, hook_names: Sequence[str]) -> Capture:
    """Capture two short rows of different length, and compare with a plain pass over each.

    A model that ignores its cache or its mask (a state-space model, say) would give wrong numbers
    without a word; here it is found out.

    Returns:
        What was captured, so that the caller can try its SAEs on it.

    Raises:
        HookError: a hook point did not fire exactly once.
        SplitError: prefix and tail together are not one pass over the whole text.
    """
    found = capture(model, Batch.of(PROBES, model.device), hook_names)
    for row, contrast in enumerate(PROBES):
        ids = torch.tensor([contrast.tokens], device=model.device)
        tokens = torch.tensor([[contrast.target_token, contrast.base_token]], device=model.device)
        with torch.no_grad():
            positions = torch.arange(ids.shape[1], device=model.device)[None]
            hidden = model.hidden(ids, torch.ones_like(ids), positions, None)
            logits = model.head.logits(hidden[:, -1], tokens)[0]
        tolerance = 1e-3 if hidden.dtype == torch.float32 else 5e-2
        gap = (found.metric[row] - (logits[0] - logits[1])).abs()
        if not gap <= tolerance * (1 + logits.abs().sum()):
            msg = f"a pass in two parts gives another logit difference, by {float(gap):.2g}"
            raise SplitError(msg)
    return found
