"""How sure a mean over pairs is: a bootstrap interval, and a p-value for its being 0.

Pairs of one question share their text and their base answer, so they are not independent: whole
questions are drawn, never single pairs. With S_q the sum over the pairs of question q and n_q their
number, the mean is t = sum_q S_q / sum_q n_q.

- Interval: questions are drawn with replacement (cluster bootstrap: Davison and Hinkley 1997,
  section 3.8; Field and Welsh 2007), the mean is taken anew, and the limits are the bias-corrected
  and accelerated ones (BCa: Efron 1987), with the acceleration of the linearised mean:
  a = sum U^3 / (6 (sum U^2)^1.5), U_q = S_q - t n_q.
- p-value: the sum of all S_q is compared with the sums in which each question's sign is drawn by
  lot (Canay, Romano and Shaikh 2017), two-sided, (1 + as extreme) / (1 + resamples): exact where
  S_q is symmetric about 0, and right for many questions where only its mean is 0.

Numbers in, numbers out: nothing here knows what the rows are. The same seed gives the same numbers,
whatever rows there are besides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import ndtr, ndtri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scipy.sparse import csr_array

    Draw = Callable[[np.random.Generator, int, int], np.ndarray]

LEVEL = 0.95
"""Of the intervals."""

AT_A_TIME = 250
"""Resamples that are drawn together; part of what a seed means."""

ENTRIES = 1 << 24
"""Numbers in memory at a time: 128 MiB, and as much again a few times while it is worked on."""

ROUNDING = 1e-12
"""Relative: sums that differ by less are the same, added in another order."""

OF_INTERVALS, OF_TESTS = 0, 1
"""So that the two draw from one seed independently."""


def intervals(
    sums: csr_array,
    pairs: Int64[np.ndarray, " questions"],
    resamples: int,
    seed: int,
) -> Float64[np.ndarray, "2 features"]:
    """Return the lower and the upper limit of each row's mean over pairs.

    Args:
        sums: over the pairs of each question, (features, questions).
        pairs: how many each question has, at least one.
        resamples: how often to draw.
        seed: of the draws.

    Returns:
        The limits; NaN where there are fewer than two questions, which tell nothing of others.
    """
    limits = np.full((2, sums.shape[0]), np.nan)
    if len(pairs) < 2:  # noqa: PLR2004
        return limits
    means = _row_sums(sums) / pairs.sum()  # (features,)
    acceleration = _acceleration(sums, pairs, means)
    for rows, table in _drawn(sums, _questions, resamples, (seed, OF_INTERVALS), pairs):
        mean = means[rows, None]
        same = np.abs(table - mean) <= ROUNDING * np.abs(mean)
        below = ((table < mean) & ~same).sum(axis=1) + same.sum(axis=1) / 2
        share = np.clip(below / resamples, 0.5 / resamples, 1 - 0.5 / resamples)
        table.sort(axis=1)
        bias = ndtri(share)
        for limit, tail in zip(limits, ((1 - LEVEL) / 2, (1 + LEVEL) / 2), strict=True):
            shifted = bias + ndtri(tail)
            level = ndtr(bias + shifted / (1 - acceleration[rows] * shifted))
            limit[rows] = _quantile(table, level)
    return limits


def p_values(sums: csr_array, resamples: int, seed: int) -> Float64[np.ndarray, " features"]:
    """Return each row's two-sided p-value for a mean of 0.

    Args:
        sums: over the pairs of each question, (features, questions).
        resamples: how often to draw.
        seed: of the draws.
    """
    found = np.ones(sums.shape[0])
    totals = np.abs(_row_sums(sums))
    sizes = _row_sums(abs(sums))  # of what rounding is relative to
    for rows, table in _drawn(sums, _signs, resamples, (seed, OF_TESTS)):
        reached = totals[rows, None] - ROUNDING * sizes[rows, None]
        extreme = (np.abs(table) >= reached).sum(axis=1)
        found[rows] = (1 + extreme) / (1 + resamples)
    return found


def _row_sums(table: csr_array) -> Float64[np.ndarray, " features"]:
    return np.asarray(table.sum(axis=1), dtype=np.float64).reshape(-1)


def _acceleration(
    sums: csr_array,
    pairs: Int64[np.ndarray, " questions"],
    means: Float64[np.ndarray, " features"],
) -> Float64[np.ndarray, " features"]:
    """Return a of each row: the skewness of U, multiplied out so that it stays sparse."""
    n = pairs.astype(np.float64)
    first, second = sums @ n, sums @ n**2  # sum of S n and S n^2, (features,)
    squares = sums.power(2)
    u2 = _row_sums(squares) - 2 * means * first + means**2 * (n**2).sum()
    u3 = (
        _row_sums(sums.power(3))
        - 3 * means * (squares @ n)
        + 3 * means**2 * second
        - means**3 * (n**3).sum()
    )
    # Where all questions agree, what is left is rounding, and there is no skewness.
    varies = u2 > ROUNDING * _row_sums(squares)
    return np.where(varies, u3 / (6 * np.where(varies, u2, 1.0) ** 1.5), 0.0)


def _questions(rng: np.random.Generator, questions: int, count: int) -> np.ndarray:
    """Draw questions with replacement; return how often each came, (questions, count)."""
    drawn = rng.integers(questions, size=(count, questions))
    return np.stack([np.bincount(row, minlength=questions) for row in drawn], axis=1)


def _signs(rng: np.random.Generator, questions: int, count: int) -> np.ndarray:
    """Draw a sign for each question, (questions, count)."""
    signs: np.ndarray = 2 * rng.integers(2, size=(questions, count)) - 1
    return signs


def _drawn(
    sums: csr_array,
    draw: Draw,
    resamples: int,
    seed: tuple[int, int],
    pairs: Int64[np.ndarray, " questions"] | None = None,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield for some rows at a time their sums in all resamples, (rows, resamples).

    Args:
        sums: over the pairs of each question, (features, questions).
        draw: gives the weights of the questions.
        resamples: how often to draw.
        seed: of the draws.
        pairs: of each question; with them, means are yielded instead of sums.
    """
    features, questions = sums.shape
    size = max(1, ENTRIES // resamples)
    for start in range(0, features, size):
        rows = slice(start, min(start + size, features))
        part = sums[rows]
        table = np.empty((rows.stop - start, resamples))
        for block, first in enumerate(range(0, resamples, AT_A_TIME)):
            # Drawn in full, so that the first resamples do not depend on how many there are.
            weights = draw(np.random.default_rng([*seed, block]), questions, AT_A_TIME)
            weights = weights[:, : resamples - first].astype(np.float64)
            columns = table[:, first : first + AT_A_TIME]
            columns[:] = part @ weights
            if pairs is not None:
                columns /= pairs @ weights
        yield rows, table


def _quantile(
    table: Float64[np.ndarray, "features resamples"], level: Float64[np.ndarray, " features"]
) -> Float64[np.ndarray, " features"]:
    """Return a quantile of each sorted row, a level for each, between neighbours by line."""
    place = level * (table.shape[1] - 1)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, table.shape[1] - 1)
    rows = np.arange(len(table))
    found: np.ndarray = table[rows, low] + (place - low) * (table[rows, high] - table[rows, low])
    return found
