"""The metric m of each row, computed from final hidden states.

    first      m = logit_t - logit_b                                  at the last column
    sequence   m = sign / n * sum_j log p(response token j | tokens before it)      n tokens

A pair that is contrasted as sequences has the sum of its two rows as its m: the mean
log-probability of the flagged response's first tokens minus that of the base response's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from atp.attribution.batches import Batch


@runtime_checkable
class Head(Protocol):
    """The unembedding."""

    def logits(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Return float32 logits, (batch, n), of tokens (batch, n) at hidden (batch, d_model)."""

    def log_normalizer(self, hidden: Tensor) -> Tensor:
        """Return log sum exp of all logits, float32 (batch,), at hidden (batch, d_model)."""


def row_metrics(
    head: Head, hidden: Float[Tensor, "row tail d_model"], batch: Batch
) -> Float[Tensor, " row"]:
    """Return each row's part of the metric of its pair, float32, from the tail's hidden states."""
    return _metrics(head, hidden, batch.contrast_tokens, batch.next_tokens, batch.weights)


def variant_metrics(
    head: Head,
    hidden: Float[Tensor, "variant width d_model"],
    batch: Batch,
    rows: Int[Tensor, " variant"],
) -> Float[Tensor, " variant"]:
    """Return the part of the metric of each variant of a row's last columns, float32."""
    next_tokens, weights = batch.next_tokens, batch.weights
    if next_tokens is not None and weights is not None:
        next_tokens, weights = next_tokens[rows], weights[rows]
    return _metrics(head, hidden, batch.contrast_tokens[rows], next_tokens, weights)


def _metrics(
    head: Head,
    hidden: Float[Tensor, "row tail d_model"],
    contrast_tokens: Int[Tensor, "row 2"],
    next_tokens: Tensor | None,
    weights: Tensor | None,
) -> Float[Tensor, " row"]:
    if next_tokens is None or weights is None:
        logits = head.logits(hidden[:, -1], contrast_tokens)  # (row, 2)
        return logits[:, 0] - logits[:, 1]
    width = min(hidden.shape[1], next_tokens.shape[1])
    hidden, next_tokens, weights = hidden[:, -width:], next_tokens[:, -width:], weights[:, -width:]
    rows, columns = weights.nonzero(as_tuple=True)  # (n,)
    predicting = hidden[rows, columns]  # (n, d_model)
    logits = head.logits(predicting, next_tokens[rows, columns][:, None])[:, 0]
    log_probs = (logits - head.log_normalizer(predicting)) * weights[rows, columns]
    return torch.zeros(len(hidden), device=hidden.device).index_add(0, rows, log_probs)
