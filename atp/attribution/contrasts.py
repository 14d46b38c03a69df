"""Contrasts: the token ids in which two responses to one prompt differ, and the texts to read.

p is the index of the prompt's last token. A pair is contrasted in one of two ways:

    first      m = logit_t - logit_b of the first differing tokens, at position p+o-1, which
               predicts token p+o; one text is read: prompt and flagged response, up to there
    sequence   m = mean log-probability of the flagged response's first tokens - that of the base
               response's; two texts are read: the prompt with either response
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Position = Literal["last", "tail", "all"]
"""Where features are read: at the prompt's last token, from there on, or at all its tokens."""


@dataclass(frozen=True)
class Row:
    """One text of a pair, up to the last position that matters."""

    tokens: tuple[int, ...]
    prompt_length: int  # number of prompt tokens, p + 1
    next_tokens: tuple[int, ...] = ()
    """For a sequence: the response's tokens, which the positions from p on predict."""
    sign: int = 1  # 1 for the flagged response, -1 for the base response

    @property
    def tail(self) -> int:
        """The number of positions from p to the last one."""
        return len(self.tokens) - self.prompt_length + 1


@dataclass(frozen=True)
class Contrast:
    """The token ids of one pair that decide its metric."""

    tokens: tuple[int, ...]
    """Prompt and response up to the token before the first differing one: positions 0..p+o-1."""
    prompt_length: int  # number of prompt tokens, p + 1
    target_token: int  # the sycophantic response's token at p + o
    base_token: int  # the neutral response's token at p + o
    sequences: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    """The first tokens of the flagged and the base response, when contrasted as sequences."""
    bos: bool = False
    """Whether position 0 holds the BOS token, which is no token of the prompt."""

    @property
    def offset(self) -> int:
        """O >= 1: the position of the differing token, counted from the prompt's last token."""
        return len(self.tokens) - self.prompt_length + 1

    @property
    def rows(self) -> tuple[Row, ...]:
        """The texts to read: one, or two when contrasted as sequences."""
        if self.sequences is None:
            return (Row(self.tokens, self.prompt_length),)
        prompt = self.tokens[: self.prompt_length]
        return tuple(
            Row((*prompt, *response[:-1]), self.prompt_length, response, sign)
            for response, sign in zip(self.sequences, (1, -1), strict=True)
        )

    @property
    def read(self) -> int:
        """The number of tokens to read."""
        return sum(len(row.tokens) for row in self.rows)
