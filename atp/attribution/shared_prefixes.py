"""Prefixes that the rows of a batch share, so that they are computed once.

The prompts of a study have much in common: a system message, the instruction, a template's opinion;
where the opinion comes last, the whole text. Attention is causal, so a shared prefix has the same
keys and values in every row.

The rows are right-aligned in L columns. The first S columns are taken from shared prefixes, each
distinct one computed once; a row's own pass covers the last L - S columns, even those that it could
have shared, so that all rows still form one block without gaps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    Tokens = tuple[int, ...]

MIN_SAVING = 0.1
"""Prefixes are shared when that saves at least this share of the tokens: the pass over them and the
copies of keys and values cost something, too."""


@dataclass(frozen=True)
class SharedPrefixes:
    """The shared prefixes of a batch's rows."""

    tokens: tuple[Tokens, ...]  # the distinct prefixes; none begins with another one
    of_row: tuple[int, ...]  # the number of each row's prefix
    lengths: tuple[int, ...]  # the number of its tokens that each row takes
    columns: int  # S, the number of columns that come from prefixes
    computed: int  # tokens that the batch runs through the model, padding included


def find_shared_prefixes(rows: Sequence[Tokens], own: int) -> SharedPrefixes:
    """Choose the number of shared columns that leaves the fewest tokens to compute.

    Every row computes the last `own` columns by itself.
    """
    width = max(len(row) for row in rows)
    unshared = SharedPrefixes((), (), (), 0, len(rows) * width)
    order = sorted(range(len(rows)), key=lambda i: rows[i])
    common = [_common_length(rows[i], rows[j]) for i, j in pairwise(order)]
    # The cost changes its slope only where a row begins to take part and where two neighbours part:
    # between these columns, more of them are always better or always worse.
    gaps = {width - len(row) for row in rows}
    columns = gaps | {
        width - len(rows[i]) + shared
        for pair, shared in zip(pairwise(order), common, strict=True)
        for i in pair
    }
    columns = {min(n, width - own) for n in columns}
    candidates = [_share(rows, order, common, width, n) for n in sorted(columns) if n > 0]
    best = min(candidates, key=lambda prefixes: prefixes.computed, default=unshared)
    return best if best.computed <= (1 - MIN_SAVING) * unshared.computed else unshared


def _common_length(one: Tokens, other: Tokens) -> int:
    shortest = min(len(one), len(other))
    return next((i for i in range(shortest) if one[i] != other[i]), shortest)


def _share(
    rows: Sequence[Tokens], order: Sequence[int], common: Sequence[int], width: int, columns: int
) -> SharedPrefixes:
    # In lexicographic order rows with a common prefix are neighbours, and two rows share as much as
    # the two neighbours between them that share least.
    lengths = [max(0, columns - (width - len(row))) for row in rows]
    of_row = [0] * len(rows)
    longest: list[int] = []  # for each prefix, the row that holds it in full
    shared = 0  # tokens that the current row shares with the row of the last prefix
    for rank, i in enumerate(order):
        shared = min(shared, common[rank - 1]) if rank else 0
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
