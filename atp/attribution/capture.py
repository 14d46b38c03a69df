"""One forward and one backward pass: the metric m, the residual x and the gradient g = dm/dx.

    m = what tells the two answers apart (contrasts.py)
    x = the hook point's output at a leaf: at position p, the prompt's last token, or at others
        (batches.py)
    g = dm/dx there

Attention is causal, so nothing after the last position that matters can change m and nothing before
a leaf depends on x. What rows share at their start (stems) and the rest of what comes before the
tail run without gradient and leave their keys and values behind, the tail, which holds the
positions from p on, runs with gradient on top of them. The numbers are those of one pass over the
whole text.

To read g at a hook point, a zero vector d is added there at each leaf; dm/dd at d = 0 is g. That
leaves the forward value as it is, works at any hook point and at several at once (each gradient is
the total derivative, the others' zeros included), and keeps only the read positions as leaves.

Attribution patching: Nanda 2023, https://www.neelnanda.io/mechanistic-interpretability/attribution-patching
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from atp.attribution.batches import Batch, ReadPositions
from atp.attribution.contrasts import Contrast
from atp.attribution.metrics import Head, row_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager


@runtime_checkable
class LanguageModel(Protocol):
    """What capturing needs of a model; `atp.model.loading.Model` is one."""

    @property
    def head(self) -> Head:
        """The unembedding."""

    @property
    def device(self) -> torch.device:
        """Where batches go."""

    def new_cache(self, *, layers: int | None = None, kept_from: int | None = None) -> Cache:
        """Return an empty key-value cache.

        Args:
            layers: to be filled; all by default.
            kept_from: the first layer whose keys and values are still there after a pass has used
                them; none are, by default.
        """

    def fill(self, cache: Any, ids: Tensor, mask: Tensor, positions: Tensor) -> None:  # noqa: ANN401
        """Add the keys and values of new tokens to a cache."""

    def hidden(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:  # noqa: ANN401
        """Return the final hidden state of new tokens after cached ones; None is no cache."""

    def hooks(
        self, hooks: Iterable[tuple[str, Callable[..., Tensor]]]
    ) -> AbstractContextManager[Any]:
        """Return a context in which the hooks are active."""

    def layers_before(self, hook_name: str) -> int:
        """Return how many layers are done when a hook point fires, its own one if it ends it."""

    def layers_through(self, hook_name: str) -> int:
        """Return how many layers a pass must begin until a hook point fires."""

    def reading(self, layers: Iterable[int]) -> AbstractContextManager[Mapping[int, Any]]:
        """Return a context in which a pass leaves what comes out of the first n layers, by n."""

    def resume(  # noqa: PLR0913, PLR0917  (as a pass needs them)
        self,
        layers: int,
        entering: Any,  # noqa: ANN401
        ids: Tensor,
        mask: Tensor,
        positions: Tensor,
        cache: Any,  # noqa: ANN401
    ) -> Tensor:
        """Return the final hidden state as `hidden` does, from what came out of the first layers.

        Args:
            layers: how many.
            entering: what came out of them, of one row; None for 0 of them.
            ids: of the new tokens.
            mask: of cached and new ones.
            positions: of the new ones.
            cache: from `Cache.prefix`.
        """


@runtime_checkable
class Cache(Protocol):
    """Keys and values of the tokens before."""

    def spread(self, rows: Tensor, columns: Tensor) -> None:
        """Give row i, column j what stem rows[i] has at position columns[i, j]."""

    def prefix(self, row: int, start: int, end: int) -> Any:  # noqa: ANN401
        """Return what is kept of a row's columns start..end, as a cache to resume passes on."""


class HookError(Exception):
    """A hook point did not fire exactly once in a pass."""


class SplitError(Exception):
    """This model's prefix and tail are not one pass over the whole text."""


@runtime_checkable
class Entering(Protocol):
    """What came out of a layer."""

    def of_row(self, row: int, columns: int) -> Any:  # noqa: ANN401
        """Return the last columns of one row."""


@dataclass(frozen=True)
class ResumeState:
    """What a pass leaves behind, so that it can be gone through again from a layer on."""

    batch: Batch
    cache: Cache
    entering: Mapping[int, Entering]
    """What came out of the first n layers, by n; for n = 0 there is nothing to keep."""


@dataclass(frozen=True)
class Capture:
    """What one pass over a batch gives."""

    metric: Float[Tensor, " pair"]
    """m, float32."""
    residuals: dict[str, Float[Tensor, " place *hook"]]
    """x at each hook point, in the hook point's shape and the model's dtype."""
    gradients: dict[str, Float[Tensor, " place *hook"]]
    """g at each hook point, shaped like x."""
    counts: tuple[int, ...]
    """The places of each pair."""
    positions: tuple[tuple[int, int], ...]
    """Of each place: its position in its text, and which of the pair's texts that is."""
    trace: ResumeState | None = None
    """If it was asked for."""
    first_pair: int = 0
    """The number that the first pair had in the batch of the trace."""

    def pairs(self, which: slice) -> Capture:
        """Return the capture of some of the pairs."""
        start, stop, _ = which.indices(len(self.metric))
        places = slice(sum(self.counts[:start]), sum(self.counts[:stop]))
        return Capture(
            self.metric[which],
            {name: x[places] for name, x in self.residuals.items()},
            {name: g[places] for name, g in self.gradients.items()},
            self.counts[which],
            self.positions[places],
            self.trace,
            self.first_pair + start,
        )


class _Probe:
    """A hook that adds a zero vector at every leaf, and keeps it and what was there."""

    def __init__(self, read_positions: ReadPositions) -> None:
        self.calls = 0
        self.read_positions = read_positions
        self.residual = self.zero = torch.empty(0)  # filled by the one call

    def __call__(
        self, x: Float[Tensor, "row tail *hook"], hook: object
    ) -> Float[Tensor, "row tail *hook"]:
        """Return `x` with the zeros added."""
        del hook
        self.calls += 1
        at = (self.read_positions.rows, self.read_positions.columns)
        there = x[at].detach()  # (leaf, *hook)
        self.residual = there[self.read_positions.firsts]
        self.zero = torch.zeros_like(there, requires_grad=True)
        return x.index_put(at, self.zero, accumulate=True)


def capture(
    model: LanguageModel, batch: Batch, hook_names: Sequence[str], *, trace: bool = False
) -> Capture:
    """Run one forward and one backward pass over a batch.

    Args:
        model: a frozen language model.
        batch: padded contrasts on the model's device.
        hook_names: where to read x and g; each name once.
        trace: whether to keep what going through the pass again from those points on needs.

    Raises:
        HookError: a hook point did not fire exactly once.
    """
    layers = {model.layers_before(name) for name in hook_names} if trace else set()
    cache = read_ahead(model, batch, model.new_cache(kept_from=min(layers, default=None)))
    probes = {name: _Probe(batch.read_positions) for name in hook_names}
    with torch.enable_grad(), model.reading(layers) as entering, model.hooks(list(probes.items())):
        rows = row_metrics(model.head, _tail(model, batch, cache), batch)
        for name, probe in probes.items():
            if probe.calls != 1:
                msg = f"the hook point {name} fired {probe.calls} times in one pass, not once"
                raise HookError(msg)
        # Rows do not see each other, so the gradient of the sum holds every row's own gradient.
        zeros = [probe.zero for probe in probes.values()]
        gradients = torch.autograd.grad(rows.sum(), zeros) if zeros else ()
    return Capture(
        _of_pairs(rows.detach(), batch),
        {name: probe.residual for name, probe in probes.items()},
        {
            name: _of_places(gradient, batch.read_positions)
            for name, gradient in zip(probes, gradients, strict=True)
        },
        batch.read_positions.counts,
        batch.read_positions.positions,
        ResumeState(batch, cache, entering) if trace else None,
    )


@torch.no_grad()
def measure(model: LanguageModel, batch: Batch) -> Float[Tensor, " pair"]:
    """Return the metric of each pair, under whatever hooks are active; no gradient is taken.

    Args:
        model: a language model.
        batch: padded contrasts on the model's device.
    """
    hidden = _tail(model, batch, read_ahead(model, batch, model.new_cache()))
    return _of_pairs(row_metrics(model.head, hidden, batch), batch)


def _tail(model: LanguageModel, batch: Batch, cache: Cache) -> Float[Tensor, "row tail d_model"]:
    ids, positions = batch.ids[:, -batch.tail :], batch.positions[:, -batch.tail :]
    return model.hidden(ids, batch.mask, positions, cache)


def _of_pairs(rows: Float[Tensor, " row"], batch: Batch) -> Float[Tensor, " pair"]:
    return rows.view(len(batch.read_positions.counts), -1).sum(dim=1)


def _of_places(
    gradient: Float[Tensor, " leaf *hook"], read_positions: ReadPositions
) -> Float[Tensor, " place *hook"]:
    if len(read_positions.firsts) == len(gradient):
        return gradient
    zeros = gradient.new_zeros(len(read_positions.firsts), *gradient.shape[1:])
    return zeros.index_add(0, read_positions.places, gradient)


@torch.no_grad()
def read_ahead(model: LanguageModel, batch: Batch, cache: Cache) -> Cache:
    """Fill a new cache with the keys and values of everything before the tail; return it."""
    if batch.prefix_ids.shape[1]:
        steps = torch.arange(batch.prefix_ids.shape[1], device=batch.ids.device)
        positions = steps.expand_as(batch.prefix_ids)
        # What pads a stem comes after it: causal attention needs no mask there.
        model.fill(cache, batch.prefix_ids, torch.ones_like(batch.prefix_ids), positions)
        cache.spread(batch.prefix_of_row, batch.prefix_columns)
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

TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""What a metric may differ by, as a share of the logits, when it is computed another way."""


def check_split_pass(
    model: LanguageModel, hook_names: Sequence[str], *, trace: bool = False
) -> Capture:
    """Capture a few short rows, and compare with a plain pass over each.

    A model that ignores its cache, positions or mask (a state-space model, say) would give wrong
    numbers without a word; here it is found out.

    Returns:
        What was captured, so that the caller can try its SAEs on it.

    Raises:
        HookError: a hook point did not fire exactly once.
        SplitError: the parts together are not one pass over the whole text.
    """
    found = capture(model, Batch.of(PROBES, model.device), hook_names, trace=trace)
    for row, contrast in enumerate(PROBES):
        ids = torch.tensor([contrast.tokens], device=model.device)
        tokens = torch.tensor([[contrast.target_token, contrast.base_token]], device=model.device)
        with torch.no_grad():
            positions = torch.arange(ids.shape[1], device=model.device)[None]
            hidden = model.hidden(ids, torch.ones_like(ids), positions, None)
            logits = model.head.logits(hidden[:, -1], tokens)[0]
        gap = (found.metric[row] - (logits[0] - logits[1])).abs()
        if not gap <= TOLERANCES[hidden.dtype] * (1 + logits.abs().sum()):
            msg = f"a pass in two parts gives another logit difference, by {float(gap):.2g}"
            raise SplitError(msg)
    return found
