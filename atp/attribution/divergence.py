"""How far two passes over the same tokens differ, over the full vocabulary.

    KL_t  = sum_v P(v) (log P(v) - log Q(v))   P, Q: next-token distributions before and after
    NLL_t = -log P(token t+1)                  nats; perplexity is exp of its mean

Never the logits of a whole batch: a few positions at a time, from the final hidden states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

AT_ONCE = 2**24
"""Logits that are made at a time, as numbers, of either pass: 64 MiB."""


@runtime_checkable
class Unembedding(Protocol):
    """What makes logits of hidden states; `atp.model.head.TokenHead` is one."""

    @property
    def vocabulary(self) -> int:
        """The number of tokens."""

    def every_logit(self, hidden: Tensor) -> Tensor:
        """Return float32 logits, (n, vocabulary), at hidden states (n, d_model)."""


@dataclass(frozen=True)
class Divergence:
    """Of each position, float64, in nats."""

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
    """Compare two passes, position by position.

    Args:
        head: of the model.
        before: final hidden states of the pass that defines P.
        after: those of the pass that defines Q.
        tokens: the token that follows each position.
    """
    step = max(1, AT_ONCE // head.vocabulary)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for start in range(0, len(tokens), step):
        part = slice(start, start + step)
        p = head.every_logit(before[part]).log_softmax(dim=1)  # (step, vocabulary)
        q = head.every_logit(after[part]).log_softmax(dim=1)
        # Where P is 0, so is its term; log P may be -inf there, and 0 * inf is no number.
        terms = torch.where(p.isneginf(), 0, p.exp() * (p - q))
        which = tokens[part, None]
        kl = terms.sum(dim=1, dtype=torch.float64)
        found.append((kl, -p.gather(1, which)[:, 0].double(), -q.gather(1, which)[:, 0].double()))
    if not found:
        nothing = torch.empty(0, dtype=torch.float64)
        return Divergence(nothing, nothing, nothing)
    return Divergence(*(torch.cat(parts) for parts in zip(*found, strict=True)))
