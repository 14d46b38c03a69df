"""Exact effects: the change of the metric when features are removed, by running the model.

    effect_i = m - m(y + decode(f with f_i at its baseline) - decode(f))    at all positions at once

y is what the model has where the dictionary writes. With a zero baseline that is y - f_i d_i, with
d_i the decoder's direction; the dictionary's error stays in place, and the rest of the model
answers: a later point that is written holds what the earlier removals have made of it. An effect
has the sign of the score, its first-order estimate: positive promotes the flagged response. (Some
papers define the effect of an ablation as m(without) - m, the opposite sign.)

Effects are measured against an unmodified variant of the pair in the same pass. Its distance from
the pair's own pass is the noise floor: an effect below it carries no information.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.attribution.patched_run import PatchedRun
    from atp.attribution.scores import Autoencoder

MAX_ACTIVATIONS_PER_CHUNK = 1 << 25  # changed activations in memory at a time: 128 MiB


@dataclass(frozen=True)
class Effects:
    """The effects of removing features of one pair."""

    features: Int[Tensor, " feature"]
    effects: Float[Tensor, " feature"]
    changed: Bool[Tensor, " feature"]
    """False, and the effect 0, where the activation equals the baseline: nothing is removed."""
    joint: float  # the effect of removing all of them together; 0 if that was not asked for
    noise_floor: float  # the largest change of the metric seen when nothing is removed


@torch.no_grad()
def decoder_delta(
    sae: Autoencoder,
    x: Float[Tensor, " position *d_in"],
    changes: Float[Tensor, "variant position d_sae"],
) -> Float[Tensor, "variant position *d_out"]:
    """Return the change of an affine decoder's output when the activations on `x` change."""
    sae.encode(x.float())  # an SAE that normalises keeps its input's scale for one decode
    decoded = sae.decode(torch.cat([torch.zeros_like(changes[:1]), changes]))
    return decoded[1:] - decoded[:1]


@torch.no_grad()
def removal_effects(
    run: PatchedRun,
    sae: Autoencoder,
    x: Float[Tensor, "pair position *d_in"],
    delta_activations: Float[Tensor, "pair position d_sae"],
    removals: Sequence[tuple[int, Int[Tensor, " feature"]]],
) -> tuple[Float[Tensor, " removal"], list[float]]:
    """Return the effect of each removal, and the noise floor of each pair of the run.

    A removal is a pair, and ids of features that are removed from it together. `x` holds the
    residuals at the read positions of each pair, `delta_activations` baseline - activation there.
    """
    pairs = [pair for pair, _ in removals]
    found = delta_activations.new_zeros(len(removals))
    noise = torch.zeros(len(x))
    limit = max(2, MAX_ACTIVATIONS_PER_CHUNK // delta_activations[0].numel())
    for chunk in run.chunks(pairs, limit):
        variants: list[int] = []  # the pair of each
        changes, unchanged = [], []
        for pair, group in groupby(chunk, key=pairs.__getitem__):
            numbers = list(group)
            delta = delta_activations[pair]
            table = delta.new_zeros(1 + len(numbers), *delta.shape)  # variant 0 removes nothing
            for row, number in zip(table[1:], numbers, strict=True):
                ids = removals[number][1]
                row[:, ids] = delta[:, ids]
            changes.append(decoder_delta(sae, x[pair], table))
            unchanged += [len(variants)] * len(numbers)
            variants += [pair] * len(table)
        of_pair = torch.tensor(variants, device=x.device)
        metrics = run.metrics(of_pair, torch.cat(changes))
        first = torch.tensor(sorted(set(unchanged)), device=x.device)
        is_removal = torch.ones_like(of_pair, dtype=torch.bool).index_fill(0, first, value=False)
        found[chunk] = metrics[unchanged] - metrics[is_removal]
        gaps = (metrics[first] - run.captured.metric[of_pair[first]]).abs().cpu()
        where = of_pair[first].cpu()
        noise[where] = torch.maximum(noise[where], gaps)
    return found, noise.tolist()


def exact_effects(  # noqa: PLR0913  (tensors of some pairs)
    run: PatchedRun,
    sae: Autoencoder,
    x: Float[Tensor, "pair position *d_in"],
    delta_activations: Float[Tensor, "pair position d_sae"],
    features: Sequence[Int[Tensor, " feature"]],
    *,
    joint: bool,
) -> list[Effects]:
    """Remove some features of each pair, each in turn; then, if asked, all of a pair together.

    The other arguments are those of `removal_effects`.
    """
    removals: list[tuple[int, Tensor]] = []
    changed_of_pairs = []
    for pair, (delta, ids) in enumerate(zip(delta_activations, features, strict=True)):
        changed = (delta[:, ids] != 0).any(dim=0)  # (feature,)
        changed_of_pairs.append(changed)
        groups = [*ids[changed][:, None], *([ids[changed]] if joint else [])]
        removals += [(pair, group) for group in groups]
    found, noise = removal_effects(run, sae, x, delta_activations, removals)
    results, start = [], 0
    for ids, changed, floor in zip(features, changed_of_pairs, noise, strict=True):
        n = int(changed.sum())
        effects = found.new_zeros(len(ids))
        effects[changed] = found[start : start + n]
        together = float(found[start + n]) if joint else 0.0
        results.append(Effects(ids, effects, changed, together, floor))
        start += n + joint
    return results
