"""One forward and one backward pass: the metric m, the residual x and the gradient g = dm/dx.

    m = logit_t - logit_b   at position p+o-1, the one that predicts the first differing token
    x = the hook point's output at position p, the prompt's last token
    g = dm/dx at position p

Attention is causal, so nothing after p+o-1 can change m and nothing before p depends on x. What
rows share at their start (stems) and the rest of what comes before the tail run without gradient
and leave their keys and values behind, the tail, which holds p..p+o-1, runs with gradient on top of
them. The numbers are those of one pass over the whole text.

To read g at a hook point, a zero vector d is added there at position p; dm/dd at d = 0 is g. That
leaves the forward value as it is, works at any hook point and at several at once (each gradient is
the total derivative, the others' zeros included), and keeps only position p as a leaf.

Attribution patching: Nanda 2023, https://www.neelnanda.io/mechanistic-interpretability/attribution-patching
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
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

    def new_cache(self) -> Cache:
        """Return an empty key-value cache."""

    def fill(self, cache: Any, ids: Tensor, mask: Tensor, positions: Tensor) -> None:  # noqa: ANN401
        """Add the keys and values of new tokens to a cache."""

    def hidden(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:  # noqa: ANN401
        """Return the final hidden state of new tokens after cached ones; None is no cache."""

    def hooks(
        self, hooks: Iterable[tuple[str, Callable[..., Tensor]]]
    ) -> AbstractContextManager[Any]:
        """Return a context in which the hooks are active."""


@runtime_checkable
class Cache(Protocol):
    """Keys and values of the tokens before."""

    def spread(self, rows: Tensor, columns: Tensor) -> None:
        """Give row i, column j what stem rows[i] has at position columns[i, j]."""


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

    def rows(self, which: slice) -> Capture:
        """Return the capture of some of the rows."""
        return Capture(
            self.metric[which],
            {name: x[which] for name, x in self.residuals.items()},
            {name: g[which] for name, g in self.gradients.items()},
        )


class _Probe:
    """A hook that adds a zero vector at position p of each row, and keeps it and what was there.

    Args:
        columns: of p, counted from the start of the tail.
    """

    def __init__(self, columns: Int[Tensor, " batch"]) -> None:
        self.calls = 0
        self.columns = columns
        self.residual = self.zero = torch.empty(0)  # filled by the one call

    def __call__(
        self, x: Float[Tensor, "batch tail *hook"], hook: object
    ) -> Float[Tensor, "batch tail *hook"]:
        """Return `x` with the zero added at each row's own column."""
        del hook
        self.calls += 1
        rows = torch.arange(len(x), device=x.device)
        self.residual = x[rows, self.columns].detach()
        self.zero = torch.zeros_like(self.residual, requires_grad=True)
        return x.index_put((rows, self.columns), self.zero, accumulate=True)


def capture(model: LanguageModel, batch: Batch, hook_names: Sequence[str]) -> Capture:
    """Run one forward and one backward pass over a batch.

    Args:
        model: a frozen language model.
        batch: padded contrasts on the model's device.
        hook_names: where to read x and g; each name once.

    Raises:
        HookError: a hook point did not fire exactly once.
    """
    cache = _read_ahead(model, batch)
    probes = {name: _Probe(batch.prompt_last) for name in hook_names}
    ids, positions = batch.ids[:, -batch.tail :], batch.positions[:, -batch.tail :]
    with torch.enable_grad(), model.hooks(list(probes.items())):
        hidden = model.hidden(ids, batch.mask, positions, cache)  # (batch, tail, d_model)
        logits = model.head.logits(hidden[:, -1], batch.contrast_tokens)  # (batch, 2)
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
        dict(zip(probes, gradients, strict=True)),
    )


@torch.no_grad()
def measure(model: LanguageModel, batch: Batch) -> Float[Tensor, " batch"]:
    """Return the metric of each row, by the passes of `capture` without their gradient.

    Hooks that are active act on all of them. Stems stay right: what a hook makes of a position
    depends on the tokens up to it alone, and these are the same in every row that shares them.
    """
    cache = _read_ahead(model, batch)
    ids, positions = batch.ids[:, -batch.tail :], batch.positions[:, -batch.tail :]
    hidden = model.hidden(ids, batch.mask, positions, cache)  # (batch, tail, d_model)
    logits = model.head.logits(hidden[:, -1], batch.contrast_tokens)  # (batch, 2)
    return logits[:, 0] - logits[:, 1]


@torch.no_grad()
def _read_ahead(model: LanguageModel, batch: Batch) -> Cache:
    """Return a cache with the keys and values of everything before the tail."""
    cache = model.new_cache()
    if batch.stem_ids.shape[1]:
        steps = torch.arange(batch.stem_ids.shape[1], device=batch.ids.device)
        positions = steps.expand_as(batch.stem_ids)
        # What pads a stem comes after it: causal attention needs no mask there.
        model.fill(cache, batch.stem_ids, torch.ones_like(batch.stem_ids), positions)
        cache.spread(batch.stem_of_row, batch.stem_columns)
    middle = batch.ids[:, : -batch.tail]
    if middle.shape[1]:
        mask = batch.mask[:, : -batch.tail]
        model.fill(cache, middle, mask, batch.positions[:, : -batch.tail])
    return cache


PROBES = (
    Contrast((1, 2, 3, 4, 5, 6, 7, 8, 9), prompt_length=7, target_token=5, base_token=6),
    Contrast((1, 2, 3, 4, 9, 6, 8, 7), prompt_length=8, target_token=5, base_token=6),
    Contrast((2, 3), prompt_length=2, target_token=5, base_token=6),
)
"""Rows of different length; two share a stem, and differ before the tail."""


def prove(model: LanguageModel, hook_names: Sequence[str]) -> Capture:
    """Capture a few short rows, and compare with a plain pass over each.

    A model that ignores its cache, positions or mask (a state-space model, say) would give wrong
    numbers without a word; here it is found out.

    Returns:
        What was captured, so that the caller can try its SAEs on it.

    Raises:
        HookError: a hook point did not fire exactly once.
        SplitError: the parts together are not one pass over the whole text.
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
