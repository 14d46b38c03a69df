"""One forward and one backward pass: the metric m, the residuals x and the gradients g = dm/dx.

    m = the contrast of the two responses (contrasts.py)
    x = a hook point's output at a read position: p, the prompt's last token, or others
        (batches.py)
    g = dm/dx there, at the hook points that a dictionary writes to

Attention is causal: nothing after the last position that matters can change m, and nothing before a
read position depends on x. So the shared prefixes and the columns before the tail run without
gradient and leave only their keys and values; the tail, the positions from p on, runs with gradient
on top of them. The numbers are those of one pass over the whole text. A model whose layers keep
more than keys and values reads whole texts in one pass, with gradients above the hook points only.

The gradient at a zero vector: to read g, a zero vector d is added to the hook point's output at
each read position, and dm/dd at d = 0 is g. That leaves the forward value as it is, works at any
hook point and at several at once (each gradient is a total derivative), and makes the few vectors d
the only leaves of the backward pass.

Attribution patching: Nanda 2023, https://www.neelnanda.io/mechanistic-interpretability/attribution-patching
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from atp.attribution.batches import Batch, ReadPositions
from atp.attribution.contrasts import Contrast
from atp.attribution.language_model import (  # noqa: TC001  (read at run time, by the tests)
    Cache,
    LanguageModel,
    LayerOutput,
)
from atp.attribution.metrics import row_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class HookError(Exception):
    """A hook point did not fire exactly once in a pass."""


class SplitError(Exception):
    """This model's prefix and tail, or its padded rows, are not passes over whole texts."""


@dataclass(frozen=True)
class ResumeState:
    """The state of a pass from which it can be run again from a layer on."""

    batch: Batch
    cache: Cache | None  # None: the pass covers whole texts
    layer_outputs: Mapping[int, LayerOutput]
    """The output of the first n layers, by n; there is none for n = 0."""


@dataclass(frozen=True)
class Capture:
    """The numbers of one pass over a batch."""

    metric: Float[Tensor, " pair"]  # m, float32
    residuals: dict[str, Float[Tensor, " position *hook"]]
    """x at each hook point, in the hook point's shape and the model's dtype, in the order in which
    the points fire."""
    gradients: dict[str, Float[Tensor, " position *hook"]]
    """g at each hook point that is written, shaped like x."""
    counts: tuple[int, ...]  # the number of positions of each pair
    positions: tuple[tuple[int, int], ...]
    """Each position as (index in its text, 0 or 1 for which text of the pair)."""
    resume_state: ResumeState | None = None
    first_pair: int = 0  # the number of the first pair in the batch of `resume_state`

    def pairs(self, which: slice) -> Capture:
        """Return the capture of some of the pairs."""
        start, stop, _ = which.indices(len(self.metric))
        positions = slice(sum(self.counts[:start]), sum(self.counts[:stop]))
        return Capture(
            self.metric[which],
            {name: x[positions] for name, x in self.residuals.items()},
            {name: g[positions] for name, g in self.gradients.items()},
            self.counts[which],
            self.positions[positions],
            self.resume_state,
            self.first_pair + start,
        )


class _Points:
    """Hooks that keep x and, where its gradient is wanted, add a zero vector to it."""

    def __init__(self, read_positions: ReadPositions) -> None:
        self.read_positions = read_positions
        self.calls: Counter[str] = Counter()
        self.residuals: dict[str, Tensor] = {}  # in the order in which the points fire
        self.zeros: dict[str, Tensor] = {}

    def hook(self, name: str, *, written: bool) -> Callable[..., Tensor]:
        """Return the hook of a point."""

        def keep(x: Float[Tensor, "row tail *hook"], hook: object) -> Tensor:
            del hook
            self.calls[name] += 1
            where, firsts = self.read_positions.of_output(x), self.read_positions.firsts
            at_reads = x[where].detach().to(firsts.device)  # (read, *hook)
            self.residuals[name] = at_reads[firsts]
            if not written:
                return x
            self.zeros[name] = torch.zeros_like(at_reads, requires_grad=True)
            return x.index_put(where, self.zeros[name].to(x.device), accumulate=True)

        return keep


def capture(
    model: LanguageModel,
    batch: Batch,
    hook_names: Sequence[str],
    *,
    read_only: Sequence[str] = (),
    resume_at: Sequence[str] = (),
) -> Capture:
    """Run one forward and one backward pass over a batch; read x and g at the hook points.

    At those that are read only there is no g. The capture keeps the state from which the pass can
    be run again from the points of `resume_at` on.
    """
    layers = {model.layers_before(name) for name in resume_at}
    cache = fill_prefix(model, batch, model.new_cache(kept_from=min(layers, default=None)))
    points = _Points(batch.read_positions)
    hooks = [(name, points.hook(name, written=True)) for name in hook_names]
    hooks += [(name, points.hook(name, written=False)) for name in read_only]
    with (
        torch.enable_grad(),
        model.recorded_layers(layers) as outputs,
        model.hooks(hooks),
    ):
        metrics = row_metrics(model.head, run_tail(model, batch, cache), batch)
        for name, _ in hooks:
            if points.calls[name] != 1:
                msg = (
                    f"the hook point {name} fired {points.calls[name]} times in one pass, not once"
                )
                raise HookError(msg)
        # Rows do not see each other: the gradient of their sum holds the gradient of each.
        zeros = list(points.zeros.values())
        gradients = torch.autograd.grad(metrics.sum(), zeros) if zeros else ()
    return Capture(
        _sum_by_pair(metrics.detach(), batch),
        points.residuals,
        {
            name: _sum_by_position(gradient, batch.read_positions)
            for name, gradient in zip(points.zeros, gradients, strict=True)
        },
        batch.read_positions.counts,
        batch.read_positions.positions,
        ResumeState(batch, cache, outputs) if resume_at else None,
    )


@torch.no_grad()
def measure(model: LanguageModel, batch: Batch) -> Float[Tensor, " pair"]:
    """Return the metric of each pair, without gradient, under whatever hooks are active."""
    hidden = run_tail(model, batch, fill_prefix(model, batch, model.new_cache()))
    return _sum_by_pair(row_metrics(model.head, hidden, batch), batch)


def run_tail(
    model: LanguageModel, batch: Batch, cache: Cache | None
) -> Float[Tensor, "row tail d_model"]:
    """Return the final hidden states of the tail, which come after those of `fill_prefix`."""
    ids, positions = batch.ids[:, batch.last_columns], batch.positions[:, batch.last_columns]
    hidden = model.hidden(ids, batch.mask, positions, cache)
    return batch.tails(hidden, torch.arange(len(hidden), device=hidden.device))


def _sum_by_pair(rows: Float[Tensor, " row"], batch: Batch) -> Float[Tensor, " pair"]:
    return rows.view(len(batch.read_positions.counts), -1).sum(dim=1)


def _sum_by_position(
    gradient: Float[Tensor, " read *hook"], read_positions: ReadPositions
) -> Float[Tensor, " position *hook"]:
    if len(read_positions.firsts) == len(gradient):
        return gradient
    zeros = gradient.new_zeros(len(read_positions.firsts), *gradient.shape[1:])
    return zeros.index_add(0, read_positions.pair_positions, gradient)


@torch.no_grad()
def fill_prefix(model: LanguageModel, batch: Batch, cache: Cache | None) -> Cache | None:
    """Fill a new cache with the keys and values of everything before the tail; return it."""
    if batch.whole:
        return None
    if cache is None:
        msg = "a model without a key-value cache needs a batch of whole texts"
        raise ValueError(msg)
    if batch.prefix_ids.shape[1]:
        steps = torch.arange(batch.prefix_ids.shape[1], device=batch.ids.device)
        positions = steps.expand_as(batch.prefix_ids)
        # A prefix is padded on the right: causal attention needs no mask there.
        model.fill(cache, batch.prefix_ids, torch.ones_like(batch.prefix_ids), positions)
        cache.spread(batch.prefix_of_row, batch.prefix_columns)
    middle = batch.ids[:, : -batch.tail]
    if middle.shape[1]:
        # The mask spans cached and new columns; the position ids are those of the new ones alone.
        mask = batch.mask[:, : -batch.tail]
        model.fill(cache, middle, mask, batch.positions[:, : -batch.tail])
    return cache


PROBES = (
    Contrast((1, 2, 3, 4, 5, 6, 7, 8, 9), prompt_length=7, target_token=5, base_token=6),
    Contrast((1, 2, 3, 4, 9, 6, 8, 7), prompt_length=8, target_token=5, base_token=6),
    Contrast((2, 3), prompt_length=2, target_token=5, base_token=6),
)
"""Rows of different length; two share a prefix and differ before the tail."""

TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Accepted difference of a metric that is computed in another way, as a share of the logits."""


def check_split_pass(
    model: LanguageModel,
    hook_names: Sequence[str],
    *,
    read_only: Sequence[str] = (),
    resume_at: Sequence[str] = (),
) -> Capture:
    """Capture a few short rows, as `capture` does, and compare with a plain pass over each.

    This finds a model that ignores its cache, positions or mask and would silently give wrong
    numbers.

    The caller can try its SAEs on the returned capture.
    """
    batch = Batch.of(PROBES, model.device, whole=not model.keeps_all_keys)
    captured = capture(model, batch, hook_names, read_only=read_only, resume_at=resume_at)
    for row, contrast in enumerate(PROBES):
        ids = torch.tensor([contrast.tokens], device=model.device)
        tokens = torch.tensor([[contrast.target_token, contrast.base_token]], device=model.device)
        with torch.no_grad():
            positions = torch.arange(ids.shape[1], device=model.device)[None]
            hidden = model.hidden(ids, torch.ones_like(ids), positions, None)
            logits = model.head.logits(hidden[:, -1], tokens)[0]
        gap = (captured.metric[row] - (logits[0] - logits[1])).abs()
        if not gap <= TOLERANCES[hidden.dtype] * (1 + logits.abs().sum()):
            parts = "in two parts" if model.keeps_all_keys else "over padded rows"
            msg = f"a pass {parts} gives another logit difference, by {float(gap):.2g}"
            raise SplitError(msg)
    return captured
