"""From (x, g) to scores: attribution patching of SAE features, with a zero baseline.

    f        = encode(x)                       activations, non-zero for few features
    dm/df    = J^T g,  J = d decode / df at f  (vector-Jacobian product)
    score_i  = f_i * dm/df_i                   first-order estimate of m - m(feature i removed)

A positive score promotes the target (sycophantic) token, a negative one the base token. With
x = decode(f) + error and a decoder that is affine in f, the whole first-order effect splits as

    x.g = sum_i f_i dm/df_i + decode(0).g + error.g
          features            bias          sae_error

Marks et al. 2024, "Sparse Feature Circuits" (arXiv:2403.19647); Syed et al. 2023 (arXiv:2310.10348).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor

IDENTITY_TOLERANCE = 1e-3
"""Largest accepted gap of the identity above, as a share of the sum of its terms' sizes."""


class Autoencoder(Protocol):
    """An SAE as SAELens gives it. `encode` may leave state behind for the next `decode`."""

    def encode(self, x: Tensor) -> Tensor:
        """(batch, *d_in) -> (batch, d_sae)."""

    def decode(self, feature_acts: Tensor) -> Tensor:
        """(batch, d_sae) -> (batch, *d_in)."""


@dataclass(frozen=True)
class Scores:
    """Scores of every feature, and how far the dictionary accounts for x."""

    activations: Tensor
    """f, (batch, d_sae)."""
    gradients: Tensor
    """dm/df, (batch, d_sae)."""
    scores: Tensor
    """f * dm/df, (batch, d_sae)."""
    n_active: Tensor
    """Number of non-zero activations (L0), (batch,)."""
    variance_explained: Tensor
    """1 - |x - decode(f)|^2 / |x|^2, (batch,), float64. About zero, not a mean: it is one position."""
    features: Tensor
    """sum_i f_i dm/df_i, (batch,), float64."""
    bias: Tensor
    """decode(0).g, (batch,), float64."""
    sae_error: Tensor
    """(x - decode(f)).g, (batch,), float64."""
    identity_gap: Tensor
    """|x.g - (features + bias + sae_error)| as a share of the terms' sizes, (batch,), float64."""


def score(sae: Autoencoder, x: Tensor, g: Tensor) -> Scores:
    """Score every feature of an SAE.

    Args:
        sae: in float32.
        x: residuals at the prompt's last token, (batch, *d_in), any dtype.
        g: gradients of the metric there, shaped like x.
    """
    x, g = x.float(), g.float()
    with torch.no_grad():
        activations = sae.encode(x)  # (batch, d_sae)
    with torch.enable_grad():
        leaf = activations.detach().requires_grad_()
        decoded = sae.decode(leaf)  # (batch, *d_in)
        (gradients,) = torch.autograd.grad(decoded, leaf, grad_outputs=g)
    with torch.no_grad():
        sae.encode(x)  # normalising SAEs remember their input's scale for one decode only
        origin = sae.decode(torch.zeros_like(activations))
        # The shares are sums of large terms that cancel: float64, at a cost of batch x d_in.
        wide, wide_g = x.flatten(1).double(), g.flatten(1).double()
        error = wide - decoded.detach().flatten(1).double()
        per_feature = activations.double() * gradients.double()
        features = per_feature.sum(dim=1)
        bias = (origin.flatten(1).double() * wide_g).sum(dim=1)
        sae_error = (error * wide_g).sum(dim=1)
        total = (wide * wide_g).sum(dim=1)
        size = per_feature.abs().sum(dim=1) + bias.abs() + sae_error.abs() + total.abs()
        gap = (total - features - bias - sae_error).abs() / size.clamp(min=1e-30)
        explained = 1 - error.square().sum(dim=1) / wide.square().sum(dim=1).clamp(min=1e-30)
        return Scores(
            activations=activations,
            gradients=gradients,
            scores=activations * gradients + 0.0,  # -0.0 + 0.0 = 0.0
            n_active=(activations != 0).sum(dim=1),
            variance_explained=explained,
            features=features,
            bias=bias,
            sae_error=sae_error,
            identity_gap=gap,
        )


def top_features(scores: Tensor, k: int) -> Tensor:
    """Return the ids of the k features of largest |score|, ties in order of id.

    Args:
        scores: (batch, d_sae).
        k: how many; fewer when the SAE is smaller.

    Returns:
        (batch, min(k, d_sae)).
    """
    order = torch.sort(scores.abs(), dim=1, descending=True, stable=True).indices
    return order[:, : min(k, scores.shape[1])]
