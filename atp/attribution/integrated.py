"""Integrated gradients over the activations of an SAE, on the straight path from their baseline.

    f(a) = f_base + a (f - f_base)                  0 <= a <= 1
    y(a) = y + decode(f(a)) - decode(f)             the SAE's error stays in place
    score_i = (f_i - f_base_i) * mean over a of dm/df_i at y(a)
    sum_i score_i = m(y) - m(y(0))                  completeness, exact in the limit of many steps

y is what the model has where the dictionary writes.

The mean is taken by the midpoint rule, a = (k - 1/2) / n. An affine decoder has the same Jacobian
everywhere, so it is applied once, to the mean gradient.

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

    gradient: Float[Tensor, " position *d_out"]  # the mean of dm/dy on the path, float32
    change: float  # m(y) - m(y(0))


def integrate(
    run: PatchedRun,
    sae: Autoencoder,
    x: Float[Tensor, "pair position *d_in"],
    delta_activations: Float[Tensor, "pair position d_sae"],
    steps: int,
) -> list[IntegratedGradients]:
    """Return the mean gradient on the path of each pair; arguments as of `exact_effects`."""
    whole = torch.stack(  # y(0) - y, (pair, position, *d_out)
        [decoder_delta(sae, *pair)[0] for pair in zip(x, delta_activations[:, None], strict=True)]
    )
    # The variants of each pair: the midpoints of the path, and its baseline.
    a = (torch.arange(steps, device=x.device) + 0.5) / steps
    shares = torch.cat([1 - a, a.new_ones(1)])
    pairs = torch.arange(len(x), device=x.device).repeat_interleave(len(shares))
    step = torch.arange(len(shares), device=x.device).repeat(len(x))
    metrics = run.captured.metric.new_zeros(len(pairs))
    gradients = whole.new_zeros(len(pairs), *whole.shape[1:])
    for chunk in run.chunks(pairs.tolist(), len(pairs)):
        number = torch.tensor(chunk, device=x.device)
        of_pair, share = pairs[number], shares[step[number]]
        changes = share.view(-1, *[1] * (whole.dim() - 1)) * whole[of_pair]
        with torch.enable_grad():
            of_chunk = run.metrics(of_pair, changes.requires_grad_())
            (gradients[number],) = torch.autograd.grad(of_chunk.sum(), changes)
        metrics[number] = of_chunk.detach()
    mean = gradients.view(len(x), -1, *whole.shape[1:])[:, :steps].mean(dim=1)
    at_baseline = metrics.view(len(x), -1)[:, -1]
    changes_of_metric = (run.captured.metric - at_baseline).tolist()
    return [IntegratedGradients(*of_pair) for of_pair in zip(mean, changes_of_metric, strict=True)]
