"""From (x, y, g) to scores: attribution patching of a dictionary's features.

A dictionary reads x at one hook point and writes at one or more: y holds what the model has there,
side by side, and g = dm/dy. An SAE writes where it reads, so y = x; a transcoder reads before an
MLP and writes after it; a layer of a cross-layer transcoder writes after this and all later MLPs.

    f        = encode(x)                       activations, non-zero for few features
    dm/df    = J^T g,  J = d decode / df at f  (vector-Jacobian product; the sum of all places')
    score_i  = (f_i - f_base_i) * dm/df_i      to first order, m - m(feature i at its baseline)

The baseline f_base is zero unless one is given. A positive score promotes the target (sycophantic)
token, a negative one the base token. With y = decode(f) + skip(x) + error, where only an affine
transcoder has a skip path, and a decoder that is affine in f, the whole first-order effect splits
as

    y.g = sum_i f_i dm/df_i + decode(0).g + skip(x).g + error.g
          features            bias          skip        sae_error

Where features are read at several positions of a pair, all terms are summed over the positions.

A score is the effect of removing feature i if that is a small step. The size of the step is

    relative_size_i = |w (f_i - f_base_i) d_i| / |w y|

d_i is what the decoder adds to y for f_i = 1, and w weights the dimensions as the next norm does.

Marks et al. 2024, "Sparse Feature Circuits" (arXiv:2403.19647); Syed et al. 2023
(arXiv:2310.10348); transcoders: Dunefsky et al. 2024 (arXiv:2406.11944); across layers: Ameisen et
al. 2025, https://transformer-circuits.pub/2025/attribution-graphs/methods.html
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

IDENTITY_TOLERANCE = 1e-3
"""Largest accepted gap of that identity, as a share of the sum of its terms' sizes."""


@runtime_checkable
class Autoencoder(Protocol):
    """A dictionary as SAELens gives it. `encode` may leave state behind for the next `decode`."""

    def encode(self, x: Tensor) -> Tensor:
        """(batch, *d_in) -> (batch, d_sae)."""

    def decode(self, feature_acts: Tensor) -> Tensor:
        """(..., batch, d_sae) -> (..., batch, *d_out)."""


@dataclass(frozen=True)
class Lengths:
    """How long steps along features are."""

    weights: Float[Tensor, " d_out"]  # w
    norms: Float[Tensor, " d_sae"]
    """|w d_i|, up to the scale that a normalising SAE gives all features of a position."""


@dataclass(frozen=True)
class Scores:
    """Scores of every feature, and how far the dictionary accounts for y."""

    activations: Float[Tensor, "position d_sae"]  # f
    gradients: Float[Tensor, "position d_sae"]  # dm/df; when summed, the mean weighted by f
    scores: Float[Tensor, "position d_sae"]  # (f - f_base) * dm/df
    relative_size: Float[Tensor, "position d_sae"]  # summed: the largest
    n_active: Float[Tensor, " position"]  # non-zero activations (L0), float64; summed: the mean
    unexplained: Float[Tensor, " position"]  # |error|^2, float64
    spread: Float[Tensor, " position"]  # |y - decode(0)|^2, float64
    features: Float[Tensor, " position"]  # sum_i f_i dm/df_i, float64
    bias: Float[Tensor, " position"]  # decode(0).g, float64
    skip: Float[Tensor, " position"]  # skip(x).g, float64
    sae_error: Float[Tensor, " position"]  # error.g, float64
    total: Float[Tensor, " position"]  # y.g, float64
    size: Float[Tensor, " position"]  # the sum of the sizes of the identity's terms, float64

    @property
    def variance_explained(self) -> Float[Tensor, " position"]:
        """1 - |error|^2 / |y - decode(0)|^2, float64.

        One position has no mean to compare with: the decoder's bias takes its place.
        """
        return 1 - self.unexplained / self.spread.clamp(min=1e-30)

    @property
    def identity_gap(self) -> Float[Tensor, " position"]:
        """|y.g - (features + bias + skip + sae_error)| as a share of the terms' sizes, float64."""
        gap = (self.total - self.features - self.bias - self.skip - self.sae_error).abs()
        return gap / self.size.clamp(min=1e-30)

    def summed(self) -> Scores:
        """Return the sums over all positions, as the scores of a single one."""
        sums = {
            field.name: getattr(self, field.name).sum(dim=0, keepdim=True) for field in fields(self)
        }
        sums["relative_size"] = self.relative_size.amax(dim=0, keepdim=True)
        weighted = sums["scores"] / torch.where(sums["activations"] != 0, sums["activations"], 1)
        return replace(
            Scores(**sums), gradients=weighted, n_active=sums["n_active"] / len(self.scores)
        )


def score(  # noqa: PLR0913  (tensors of some positions)
    sae: Autoencoder,
    x: Float[Tensor, " position *d_in"],
    g: Float[Tensor, " position *d_out"],
    lengths: Lengths,
    baseline: Float[Tensor, "position d_sae"] | None = None,
    *,
    y: Float[Tensor, " position *d_out"] | None = None,
    skip: Float[Tensor, " position *d_out"] | None = None,
) -> Scores:
    """Score every feature of a float32 dictionary, from x, y and g of any dtype.

    The baseline holds the activations to compare with; zero by default. Without y, y = x.
    """
    x, g = x.float(), g.float()
    y = x if y is None else y.float()
    with torch.no_grad():
        activations = sae.encode(x)  # (position, d_sae)
    with torch.enable_grad():
        leaf = activations.detach().requires_grad_()
        strongest = activations.abs().argmax(dim=1, keepdim=True)
        alone = torch.zeros_like(activations).scatter_(1, strongest, 1)
        # In one call: normalising SAEs keep their input's scale for one decode only.
        all_three = sae.decode(torch.stack([leaf, torch.zeros_like(leaf), alone]))
        (gradients,) = torch.autograd.grad(all_three[0], leaf, grad_outputs=g)
    decoded, origin, direction = all_three.detach()  # (position, *d_out)
    with torch.no_grad():
        tiny = torch.finfo().tiny
        of_direction = ((direction - origin).flatten(1) * lengths.weights).norm(dim=1)
        scale = of_direction / lengths.norms[strongest[:, 0]].clamp(min=tiny)
        whole = (y.flatten(1) * lengths.weights).norm(dim=1).clamp(min=tiny)
        # The shares are sums of large terms that cancel: float64, at a cost of position x d_out.
        wide, wide_g = y.flatten(1).double(), g.flatten(1).double()
        error = wide - decoded.flatten(1).double()
        by_skip = torch.zeros_like(error) if skip is None else skip.flatten(1).double()
        error -= by_skip
        per_feature = activations.double() * gradients.double()
        features = per_feature.sum(dim=1)
        bias = (origin.flatten(1).double() * wide_g).sum(dim=1)
        skipped = (by_skip * wide_g).sum(dim=1)
        sae_error = (error * wide_g).sum(dim=1)
        total = (wide * wide_g).sum(dim=1)
        moved = activations if baseline is None else activations - baseline
        return Scores(
            activations=activations,
            gradients=gradients,
            scores=moved * gradients + 0.0,  # -0.0 + 0.0 = 0.0
            relative_size=moved.abs() * lengths.norms * (scale / whole)[:, None],
            n_active=(activations != 0).sum(dim=1).double(),
            unexplained=error.square().sum(dim=1),
            spread=(wide - origin.flatten(1).double()).square().sum(dim=1),
            features=features,
            bias=bias,
            skip=skipped,
            sae_error=sae_error,
            total=total,
            size=(per_feature.abs().sum(dim=1) + bias.abs() + skipped.abs())
            + (sae_error.abs() + total.abs()),
        )


def top_features(scores: Float[Tensor, "batch d_sae"], k: int) -> Int[Tensor, "batch k"]:
    """Return the ids of the k features of largest |score|, or of all; ties in order of id."""
    # Non-negative float32 numbers are ordered like their bits. Below these bits, ids that count
    # down make every key distinct: topk leaves equal keys unordered, a full sort costs far more.
    size = scores.abs().contiguous().view(torch.int32).long()
    ids = torch.arange(scores.shape[1], device=scores.device)
    keys = (size << 32) | (scores.shape[1] - 1 - ids)
    largest = keys.topk(min(k, scores.shape[1]), dim=1).values
    return scores.shape[1] - 1 - (largest & 0xFFFFFFFF)
