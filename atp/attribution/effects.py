"""What a feature really does: the change of the metric when it is removed, by running the model.

    effect_i = m - m(x + decode(f with f_i at its baseline) - decode(f))      at all places at once

With a zero baseline that is x - f_i d_i, d_i the decoder's direction; the SAE's error stays where
it is. The sign is that of a score, which is its first-order estimate: positive promotes the flagged
answer. (Some define the effect of an ablation as m(without) - m, the opposite.)

What the same passes give for a variant in which nothing is removed is what effects are measured
from; its distance from the pair's own pass is the noise floor, below which an effect says nothing.
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

NUMBERS = 1 << 25
"""Of changed activations, at most so many at a time: 128 MiB."""


@dataclass(frozen=True)
class Effects:
    """Of one pair."""

    effects: Float[Tensor, " feature"]
    """Of each feature asked for; exactly 0 for one that its baseline does not change."""
    changed: Float[Tensor, " feature"]
    """1 for each feature that was removed, 0 for one that its baseline does not change."""
    joint: float
    """Of all of them removed together."""
    noise_floor: float
    """The largest change of the metric seen when nothing is removed."""


@torch.no_grad()
def decoder_delta(
    sae: Autoencoder,
    x: Float[Tensor, " place *d_in"],
    changes: Float[Tensor, "variant place d_sae"],
) -> Float[Tensor, "variant place *d_in"]:
    """Return by how much the decoder's output moves when activations change.

    Args:
        sae: in float32, its decoder affine.
        x: residuals of which the activations are changed.
        changes: what is added to the activations.
    """
    sae.encode(x.float())  # an SAE that normalises remembers the scale for one decode
    decoded = sae.decode(torch.cat([torch.zeros_like(changes[:1]), changes]))
    return decoded[1:] - decoded[:1]


@torch.no_grad()
def exact_effects(  # noqa: PLR0913, PLR0917  (tensors of a pair)
    replay: PatchedRun,
    sae: Autoencoder,
    x: Float[Tensor, " place *d_in"],
    delta_activations: Float[Tensor, "place d_sae"],
    metric: float,
    features: Int[Tensor, " feature"],
) -> Effects:
    """Remove each of some features of a pair in turn, then all of them together.

    Args:
        replay: of the pair.
        sae: whose features they are.
        x: residuals at the pair's places, in the shape that the SAE reads.
        delta_activations: baseline - activation, of every feature at every place.
        metric: of the pair's own pass.
        features: their ids.
    """
    changed = (delta_activations[:, features] != 0).any(dim=0)  # (feature,)
    removed = [features[i : i + 1] for i in changed.nonzero()[:, 0]]
    together = [*removed, features[changed]]
    found, floor = [], 0.0
    for chunk in _chunks(replay, len(together), delta_activations.numel()):
        groups = together[chunk]
        changes = delta_activations.new_zeros(
            1 + len(groups), *delta_activations.shape
        )  # the first: nothing is removed
        for change, group in zip(changes[1:], groups, strict=True):
            change[:, group] = delta_activations[:, group]
        metrics = replay.metrics(decoder_delta(sae, x, changes))
        found.append(metrics[0] - metrics[1:])
        floor = max(floor, abs(float(metrics[0]) - metric))
    *single, joint = torch.cat(found)
    effects = delta_activations.new_zeros(len(features))
    if single:
        effects[changed] = torch.stack(single)
    return Effects(effects, changed.to(effects.dtype), float(joint), floor)


def _chunks(replay: PatchedRun, variants: int, numbers: int) -> Iterator[slice]:
    """Cut variants into parts whose activations and passes fit."""
    most = max(1, NUMBERS // numbers - 1)
    for chunk in replay.chunks(variants):
        for start in range(chunk.start, chunk.stop, most):
            yield slice(start, min(start + most, chunk.stop))
