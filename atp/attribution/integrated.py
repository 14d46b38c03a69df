"""Integrated gradients over the activations of an SAE, on the straight path from their baseline.

    f(a) = f_base + a (f - f_base)                  0 <= a <= 1
    x(a) = x + decode(f(a)) - decode(f)             the SAE's error stays in place
    score_i = (f_i - f_base_i) * mean over a of dm/df_i at x(a)
    sum_i score_i = m(x) - m(x(0))                  completeness, exact in the limit of many steps

The mean is taken by the midpoint rule, a = (k - 1/2) / n. An affine decoder has the same Jacobian
everywhere, so it is applied once, to the mean gradient of the residual.

Sundararajan et al. 2017 (arXiv:1703.01365); on SAE features Marks et al. 2024 (arXiv:2403.19647).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from atp.attribution.exact_effects import decoder_delta

if TYPE_CHECKING:
    from atp.attribution.patched_run import PatchedRun
    from atp.attribution.scores import Autoencoder


@dataclass(frozen=True)
class IntegratedGradients:
    """The path of one pair from its baseline."""

    gradient: Float[Tensor, " position *d_in"]  # the mean of dm/dx on the path, float32
    change: float  # m(x) - m(x(0))


def integrate(  # noqa: PLR0913, PLR0917  (tensors of a pair)
    run: PatchedRun,
    sae: Autoencoder,
    x: Float[Tensor, " position *d_in"],
    delta_activations: Float[Tensor, "position d_sae"],
    metric: float,
    steps: int,
) -> IntegratedGradients:
    """Return the mean gradient on the path; the arguments are those of `exact_effects`."""
    (whole,) = decoder_delta(sae, x, delta_activations[None])  # x(0) - x
    shares = 1 - (torch.arange(steps, device=x.device) + 0.5) / steps
    total = torch.zeros_like(whole)
    for chunk in run.chunks(steps):
        changes = (shares[chunk].view(-1, *[1] * whole.dim()) * whole).requires_grad_()
        with torch.enable_grad():
            metrics = run.metrics(changes)
            (gradients,) = torch.autograd.grad(metrics.sum(), changes)
        total += gradients.sum(dim=0)
    with torch.no_grad():
        (at_baseline,) = run.metrics(whole[None]).tolist()
    return IntegratedGradients(total / steps, metric - at_baseline)
