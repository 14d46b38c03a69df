"""What the rows of a batch share at their start, so that it is computed once.

The prompts of a study have much in common: a system message, the instruction, the opinion of a
template; where the opinion comes last, the whole text. Attention is causal, so the keys and values
of a common start are the same in every row.

The rows stand right-aligned in L columns. The first S columns are taken from stems, each distinct
one computed once; a row's own pass covers the last L - S columns, whatever it could have shared of
them, so that all rows still form one block without gaps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    Tokens = tuple[int, ...]

MAX_SHARE_LEFT = 0.9
"""Shared prefixes are used when they leave at most this share of the tokens to compute: a pass of
their own and the copies of keys and values cost something, too."""


@dataclass(frozen=True)
class SharedPrefixes:
    """The starts of a batch's rows."""

    tokens: tuple[Tokens, ...]
    """The distinct stems; none begins with another one."""
    of_row: tuple[int, ...]
    """Which stem a row starts with."""
    lengths: tuple[int, ...]
    """How many tokens of it the row takes."""
    columns: int
    """S, the number of columns that come from stems."""
    computed: int
    """Tokens that the batch runs through the model, padding included."""


def find_shared_prefixes(rows: Sequence[Tokens], own: int) -> SharedPrefixes:
    """Choose the columns that leave the fewest tokens to compute.

    Args:
        rows: token ids of each row.
        own: how many columns at the end every row must compute by itself.
    """
    width = max(len(row) for row in rows)
    nothing = SharedPrefixes((), (), (), 0, len(rows) * width)
    order = sorted(range(len(rows)), key=lambda i: rows[i])
    common = [_common(rows[i], rows[j]) for i, j in pairwise(order)]
    # Where a row begins to take part, and where two neighbours part: between these, more columns
    # are always better or always worse.
    gaps = {width - len(row) for row in rows}
    columns = gaps | {
        width - len(rows[i]) + shared
        for pair, shared in zip(pairwise(order), common, strict=True)
        for i in pair
    }
    columns = {min(n, width - own) for n in columns}
    candidates = [_stems(rows, order, common, width, n) for n in sorted(columns) if n > 0]
    best = min(candidates, key=lambda stems: stems.computed, default=nothing)
    return best if best.computed <= MAX_SHARE_LEFT * nothing.computed else nothing


def _common(one: Tokens, other: Tokens) -> int:
    """Return the number of tokens two rows share at their start."""
    shortest = min(len(one), len(other))
    return next((i for i in range(shortest) if one[i] != other[i]), shortest)


def _stems(
    rows: Sequence[Tokens], order: Sequence[int], common: Sequence[int], width: int, columns: int
) -> SharedPrefixes:
    """Take `columns` columns from stems.

    In lexicographic order rows with a common start are neighbours, and what two rows share is the
    least that any neighbours between them do.
    """
    lengths = [max(0, columns - (width - len(row))) for row in rows]
    of_row = [0] * len(rows)
    longest: list[int] = []  # the row that spells each stem out
    shared = 0  # by the current row and the one that spells out the last stem
    for place, i in enumerate(order):
        shared = min(shared, common[place - 1]) if place else 0
        if longest and shared >= min(lengths[i], lengths[longest[-1]]):
            if lengths[i] > lengths[longest[-1]]:
                longest[-1] = i
                shared = len(rows[i])
        else:
            longest.append(i)
            shared = len(rows[i])
        of_row[i] = len(longest) - 1
    computed = len(longest) * max(lengths) + len(rows) * (width - columns)
    tokens = tuple(rows[i][: lengths[i]] for i in longest)
    return SharedPrefixes(tokens, tuple(of_row), tuple(lengths), columns, computed)
