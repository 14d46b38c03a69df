"""Which features of a pair are removed for real, and what that says of those that are not.

A score is wrong where the removal is a large step: such features are flagged by their relative size
and removed, whatever their score. For |effect - score| of a feature that is not removed there is a
bound by its size, to second order in the step:

    |effect_i - score_i| <= q * relative_size_i^2 * error_scale,    error_scale = sum_j |y_j g_j|

over all dimensions of what the dictionary writes, at the pair's read positions. One feature of each
pair, drawn at random among those that would not be removed, is removed, too: the errors of these
over a run give q (atp/stats/tolerance.py).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from atp.attribution.exact_effects import Effects, exact_effects
from atp.attribution.scores import top_features

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from atp.attribution.patched_run import PatchedRun
    from atp.attribution.scores import Autoencoder, Scores
    from atp.config.method import Method


@dataclass(frozen=True)
class Plan:
    """The features of a pair that are to be removed, and how many are not."""

    ids: Tensor  # ascending
    flagged: int
    """How many of them are of a relative size above --exact-above."""
    sample: int | None
    """The id of the one that is drawn, if one is."""
    unchecked: int
    """Features that are not at their baseline, and are not removed."""


@dataclass(frozen=True)
class Removed:
    """The features of a pair that were removed."""

    plan: Plan
    measured: Effects
    error_scale: float


def plans(
    scores: Scores, delta: Tensor, method: Method, top_k: int, texts: Sequence[tuple[int, ...]]
) -> list[Plan]:
    """Plan the removals of each pair.

    `delta`, (pair, position, d_sae), holds baseline - activation, and `texts` the tokens of each
    pair, which decide its sample: any run draws the same.
    """
    flagged = scores.relative_size > method.exact_above  # (pair, d_sae)
    chosen = flagged.clone()
    if method.exact == "all":
        chosen.scatter_(1, top_features(scores.scores, top_k), value=True)
    left = (delta != 0).any(dim=1) & ~chosen
    found = []
    for pair, tokens in enumerate(texts):
        candidates = left[pair].nonzero()[:, 0]
        sample = None
        if len(candidates):
            draw = zlib.crc32(repr(tokens).encode()) % len(candidates)
            sample = int(candidates[draw])
            chosen[pair, sample] = True
        ids = chosen[pair].nonzero()[:, 0]
        unchecked = len(candidates) - (sample is not None)
        found.append(Plan(ids, int(flagged[pair].sum()), sample, unchecked))
    return found


def remove(  # noqa: PLR0913, PLR0917  (tensors of some pairs)
    run: PatchedRun,
    sae: Autoencoder,
    method: Method,
    x: Tensor,
    delta: Tensor,
    scores: Scores,
    top_k: int,
    scales: Tensor,
) -> list[Removed]:
    """Remove features of each pair; x is (pair, position, *d_in), delta as for `plans`.

    `scales` holds the error scale of each pair.
    """
    texts = [run.text(pair) for pair in range(len(x))]
    planned = plans(scores, delta, method, top_k, texts)
    ids = [plan.ids for plan in planned]
    found = exact_effects(run, sae, x, delta, ids, joint=method.exact == "all")
    return [Removed(*of_pair) for of_pair in zip(planned, found, scales.tolist(), strict=True)]
