"""Contrasts of token ids: what two answers to one prompt are told apart by, and the texts to read.

p is the index of the prompt's last token. Two ways to contrast the answers:

    first      m = logit_t - logit_b, of the first differing tokens, at p+o-1, which predicts p+o;
               one text is read: prompt and flagged answer, up to there
    sequence   m = mean log-probability of the flagged answer's first tokens - that of the base
               answer's; two texts are read, each prompt and answer, up to the last of these
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Position = Literal["last", "tail", "all"]
"""Where features are read: at the prompt's last token, from there on, or at all its tokens."""


@dataclass(frozen=True)
class Row:
    """One text that a pass reads, as far as it matters."""

    tokens: tuple[int, ...]
    prompt_length: int
    """Number of prompt tokens, p + 1."""
    next_tokens: tuple[int, ...] = ()
    """Of a sequence: the answer's tokens, which the positions from p on predict."""
    sign: int = 1
    """1 of the flagged answer, -1 of the base answer."""

    @property
    def tail(self) -> int:
        """The number of positions from p to the last one."""
        return len(self.tokens) - self.prompt_length + 1


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
    sequences: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    """The first tokens of the flagged and of the base answer, to contrast as sequences."""
    bos: bool = False
    """Whether position 0 holds the BOS token, which is no token of the prompt."""

    @property
    def offset(self) -> int:
        """O >= 1: the position of the differing token, counted from the prompt's last token."""
        return len(self.tokens) - self.prompt_length + 1

    @property
    def rows(self) -> tuple[Row, ...]:
        """The texts to read: one, or that of the flagged and that of the base answer."""
        if self.sequences is None:
            return (Row(self.tokens, self.prompt_length),)
        prompt = self.tokens[: self.prompt_length]
        return tuple(
            Row((*prompt, *answer[:-1]), self.prompt_length, answer, sign)
            for answer, sign in zip(self.sequences, (1, -1), strict=True)
        )

    @property
    def read(self) -> int:
        """The number of tokens that are read."""
        return sum(len(row.tokens) for row in self.rows)
