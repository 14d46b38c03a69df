"""Exact effects: the change of the metric when features are removed, by running the model.

    effect_i = m - m(x + decode(f with f_i at its baseline) - decode(f))    at all positions at once

With a zero baseline that is x - f_i d_i, with d_i the decoder's direction; the SAE's error stays in
place. An effect has the sign of the score, its first-order estimate: positive promotes the flagged
response. (Some papers define the effect of an ablation as m(without) - m, the opposite sign.)

Effects are measured against an unmodified variant in the same pass. Its distance from the pair's
own pass is the noise floor: an effect below it carries no information.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atp.attribution.patched_run import PatchedRun
    from atp.attribution.scores import Autoencoder

MAX_ACTIVATIONS_PER_CHUNK = 1 << 25  # changed activations in memory at a time: 128 MiB


@dataclass(frozen=True)
class Effects:
    """The effects of removing features of one pair."""

    effects: Float[Tensor, " feature"]
    changed: Float[Tensor, " feature"]
    """1 for a removed feature; 0, like its effect, where the activation equals the baseline."""
    joint: float  # the effect of removing all of them together
    noise_floor: float  # the largest change of the metric seen when nothing is removed


@torch.no_grad()
def decoder_delta(
    sae: Autoencoder,
    x: Float[Tensor, " position *d_in"],
    changes: Float[Tensor, "variant position d_sae"],
) -> Float[Tensor, "variant position *d_in"]:
    """Return the change of an affine decoder's output when the activations on `x` change."""
    sae.encode(x.float())  # an SAE that normalises keeps its input's scale for one decode
    decoded = sae.decode(torch.cat([torch.zeros_like(changes[:1]), changes]))
    return decoded[1:] - decoded[:1]


@torch.no_grad()
def exact_effects(  # noqa: PLR0913, PLR0917  (tensors of a pair)
    run: PatchedRun,
    sae: Autoencoder,
    x: Float[Tensor, " position *d_in"],
    delta_activations: Float[Tensor, "position d_sae"],
    metric: float,
    features: Int[Tensor, " feature"],
) -> Effects:
    """Remove each of some features of a pair in turn, then all of them together.

    `x` holds the residuals at the pair's positions, `delta_activations` baseline - activation
    there, and `metric` is m of the pair's own pass.
    """
    changed = (delta_activations[:, features] != 0).any(dim=0)  # (feature,)
    singles = [features[i : i + 1] for i in changed.nonzero()[:, 0]]
    variants = [*singles, features[changed]]
    effects_of_chunks, noise_floor = [], 0.0
    for chunk in _chunks(run, len(variants), delta_activations.numel()):
        groups = variants[chunk]
        # Variant 0 removes nothing.
        changes = delta_activations.new_zeros(1 + len(groups), *delta_activations.shape)
        for change, group in zip(changes[1:], groups, strict=True):
            change[:, group] = delta_activations[:, group]
        metrics = run.metrics(decoder_delta(sae, x, changes))
        effects_of_chunks.append(metrics[0] - metrics[1:])
        noise_floor = max(noise_floor, abs(float(metrics[0]) - metric))
    *of_singles, joint = torch.cat(effects_of_chunks)
    effects = delta_activations.new_zeros(len(features))
    if of_singles:
        effects[changed] = torch.stack(of_singles)
    return Effects(effects, changed.to(effects.dtype), float(joint), noise_floor)


def _chunks(run: PatchedRun, variants: int, activations: int) -> Iterator[slice]:
    """Cut variants into parts whose passes and whose activations fit."""
    size = max(1, MAX_ACTIVATIONS_PER_CHUNK // activations - 1)
    for chunk in run.chunks(variants):
        for start in range(chunk.start, chunk.stop, size):
            yield slice(start, min(start + size, chunk.stop))
