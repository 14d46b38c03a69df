"""Contrasts of token ids, and how they are put into padded batches under a token budget.

A batch has two parts. The prefix (tokens 0..p-1) runs without gradient and is left-padded, so that
every row's prompt ends in the same column; the tail (tokens p..p+o-1) carries the gradient and is
right-padded. p is the index of the prompt's last token, o the offset of the first differing token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Contrast:
    """The token ids of one pair, as far as they matter."""

    tokens: tuple[int, ...]
    """Prompt and response up to the token before the first differing one: positions 0..p+o-1."""
    prompt_length: int
    """Number of prompt tokens, p + 1."""
    target_token: int
    """The sycophantic answer's token at p + o."""
    base_token: int
    """The neutral answer's token there."""

    @property
    def offset(self) -> int:
        """o: how far after the prompt's last token the answers differ, from 1."""
        return len(self.tokens) - self.prompt_length + 1


@dataclass(frozen=True)
class Batch:
    """Padded tensors of several contrasts, on one device."""

    prefix_ids: Int[Tensor, "batch prefix"]
    """Left-padded."""
    prefix_mask: Int[Tensor, "batch prefix"]
    """1 for real tokens."""
    tail_ids: Int[Tensor, "batch tail"]
    """Right-padded."""
    tail_mask: Int[Tensor, "batch tail"]
    """1 for real tokens."""
    prompt_last: Int[Tensor, " batch"]
    """p of each row."""
    offsets: Int[Tensor, " batch"]
    """o of each row."""
    contrast_tokens: Int[Tensor, "batch 2"]
    """Target and base token of each row."""

    @classmethod
    def of(cls, contrasts: Sequence[Contrast], device: torch.device) -> Batch:
        """Pad `contrasts` into one batch."""
        prefix = max(contrast.prompt_length - 1 for contrast in contrasts)
        tail = max(contrast.offset for contrast in contrasts)
        rows = []
        for contrast in contrasts:
            p, o = contrast.prompt_length - 1, contrast.offset
            left, right = [0] * (prefix - p), [0] * (tail - o)
            rows.append(
                (
                    left + list(contrast.tokens[:p]),
                    left + [1] * p,
                    list(contrast.tokens[p:]) + right,
                    [1] * o + right,
                    p,
                    o,
                    (contrast.target_token, contrast.base_token),
                )
            )
        columns = zip(*rows, strict=True)
        # An empty prefix is integer, too: without a dtype it would be float.
        return cls(*(torch.tensor(column, dtype=torch.long, device=device) for column in columns))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.offsets)


def plan(contrasts: Sequence[Contrast], batch_tokens: int) -> list[list[int]]:
    """Group contrasts of similar length, so that little is padding.

    The plan depends on the contrasts and the budget alone: never on time, memory or what is done.

    Args:
        contrasts: a window of the input, in input order.
        batch_tokens: most tokens in a batch, padding included; a longer contrast goes alone.

    Returns:
        Indices into `contrasts`, each in exactly one batch.
    """
    by_length = sorted(
        range(len(contrasts)),
        key=lambda i: (contrasts[i].prompt_length, len(contrasts[i].tokens), i),
    )
    batches: list[list[int]] = []
    prefix = tail = 0
    for index in by_length:
        contrast = contrasts[index]
        prefix = max(prefix, contrast.prompt_length - 1)
        tail = max(tail, contrast.offset)
        if batches and (len(batches[-1]) + 1) * (prefix + tail) <= batch_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
            prefix, tail = contrast.prompt_length - 1, contrast.offset
    return batches
