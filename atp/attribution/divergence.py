"""The divergence of two passes over the same tokens, over the full vocabulary.

    KL_t  = sum_v P(v) (log P(v) - log Q(v))   P, Q: next-token distributions before and after
    NLL_t = -log P(token t+1)                  nats; perplexity is exp of its mean

Logits are made for a few positions at a time, from the final hidden states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

MAX_LOGITS_PER_CHUNK = 2**24  # logits of either pass in memory at a time: 64 MiB


@runtime_checkable
class Unembedding(Protocol):
    """Makes logits of hidden states; `atp.model.head.TokenHead` is one."""

    @property
    def vocabulary(self) -> int:
        """The number of tokens."""

    def every_logit(self, hidden: Tensor) -> Tensor:
        """Return float32 logits, (n, vocabulary), at hidden states (n, d_model)."""


@dataclass(frozen=True)
class Divergence:
    """The divergence at each position, float64, in nats."""

    kl: Float[Tensor, " n"]
    nll_before: Float[Tensor, " n"]
    nll_after: Float[Tensor, " n"]


@torch.no_grad()
def divergence(
    head: Unembedding,
    before: Float[Tensor, "n d_model"],
    after: Float[Tensor, "n d_model"],
    tokens: Int[Tensor, " n"],
) -> Divergence:
    """Compare the final hidden states of two passes; `tokens` follow the positions."""
    step = max(1, MAX_LOGITS_PER_CHUNK // head.vocabulary)
    chunks: list[tuple[Tensor, Tensor, Tensor]] = []
    for start in range(0, len(tokens), step):
        part = slice(start, start + step)
        p = head.every_logit(before[part]).log_softmax(dim=1)  # (step, vocabulary)
        q = head.every_logit(after[part]).log_softmax(dim=1)
        # Where P is 0, its term is 0; log P may be -inf there, and 0 * inf is not a number.
        terms = torch.where(p.isneginf(), 0, p.exp() * (p - q))
        next_tokens = tokens[part, None]
        kl = terms.sum(dim=1, dtype=torch.float64)
        before_p, after_p = (log_p.gather(1, next_tokens)[:, 0].double() for log_p in (p, q))
        chunks.append((kl, -before_p, -after_p))
    if not chunks:
        return Divergence(*[torch.empty(0, dtype=torch.float64)] * 3)
    return Divergence(*(torch.cat(parts) for parts in zip(*chunks, strict=True)))
