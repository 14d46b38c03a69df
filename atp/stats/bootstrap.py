"""How sure a mean over pairs is: bootstrap intervals, and p-values for a mean of 0.

Pairs of one question share their text and their base response, so they are not independent: whole
questions are drawn, never single pairs. With S_q the sum over the pairs of question q and n_q their
number, the mean is t = sum_q S_q / sum_q n_q.

- Interval: questions are drawn with replacement (cluster bootstrap: Davison and Hinkley 1997,
  section 3.8; Field and Welsh 2007), the mean is computed anew, and the limits are bias-corrected
  and accelerated (BCa: Efron 1987), with the acceleration of the linearised mean:
  a = sum U^3 / (6 (sum U^2)^1.5), U_q = S_q - t n_q.
- Interval over several random sets of features: sets are drawn with replacement, too, independently
  of the questions (Owen 2007, "The pigeonhole bootstrap"), and the limits are percentiles: the
  acceleration of BCa is defined for draws from one sample, not from two that are crossed.
- p-value: the sum of all S_q is compared with the sums in which the sign of each question is drawn
  at random (Canay, Romano and Shaikh 2017), two-sided, (1 + as extreme) / (1 + resamples): exact
  where S_q is symmetric about 0, and right for many questions where only its mean is 0.

The same seed gives the same numbers, whatever other rows a table has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.sparse import coo_array
from scipy.special import ndtr, ndtri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scipy.sparse import csr_array

    Draw = Callable[[np.random.Generator, int, int], np.ndarray]

LEVEL = 0.95
TAILS = (1 - LEVEL) / 2, (1 + LEVEL) / 2
"""The shares of resampled means below the lower and below the upper limit, before correction."""

RESAMPLES = 9999

RESAMPLES_PER_BLOCK = 250  # resamples that are drawn together; part of what a seed means

MAX_RESAMPLED_MEANS = 1 << 24
"""In memory at a time: 128 MiB, and a few times as much while it is worked on."""

RELATIVE_ROUNDING = 1e-12  # sums that differ by less are the same, added in another order

QUESTION_STREAM, SIGN_STREAM, SET_STREAM = 0, 1, 2
"""One seed gives independent draws of each kind."""


def question_sums(
    values: coo_array, questions: Int64[np.ndarray, " pairs"], counted: Bool[np.ndarray, " pairs"]
) -> tuple[csr_array, Int64[np.ndarray, " questions"]]:
    """Return the sums of values, (rows, pairs), over each question, (rows, questions).

    Also returned is the number of pairs of each question. Only counted pairs count; questions
    without one are left out.
    """
    names, sizes = np.unique(questions[counted], return_counts=True)
    inside = counted[values.col]
    columns = np.searchsorted(names, questions[values.col[inside]])
    entries = values.data[inside], (values.row[inside], columns)
    return coo_array(entries, shape=(values.shape[0], len(names))).tocsr(), sizes


def intervals(
    sums: csr_array, pairs: Int64[np.ndarray, " questions"], resamples: int, seed: int
) -> Float64[np.ndarray, "2 rows"]:
    """Return the lower and the upper BCa limit of each row's mean over pairs.

    The sums over the pairs of each question are (rows, questions). The limits are NaN where there
    are fewer than two questions: one says nothing about others.
    """
    limits = np.full((2, sums.shape[0]), np.nan)
    if len(pairs) < 2:  # noqa: PLR2004
        return limits
    means = _row_sums(sums) / pairs.sum()  # (rows,)
    acceleration = _acceleration(sums, pairs, means)
    for rows, table in _resampled(sums, _counts, resamples, (seed, QUESTION_STREAM), pairs):
        mean = means[rows, None]
        same = np.abs(table - mean) <= RELATIVE_ROUNDING * np.abs(mean)
        below = ((table < mean) & ~same).sum(axis=1) + same.sum(axis=1) / 2
        share = np.clip(below / resamples, 0.5 / resamples, 1 - 0.5 / resamples)
        table.sort(axis=1)
        bias = ndtri(share)
        for limit, tail in zip(limits, TAILS, strict=True):
            shifted = bias + ndtri(tail)
            level = ndtr(bias + shifted / (1 - acceleration[rows] * shifted))
            limit[rows] = _quantile(table, level)
    return limits


def interval_of_mean(
    values: Float64[np.ndarray, "sets pairs"],
    questions: Int64[np.ndarray, " pairs"],
    seed: int,
) -> list[float] | None:
    """Return the limits of the mean over all sets and pairs; None where there is one question.

    One set has BCa limits; of several sets, sets are drawn as well as questions.
    """
    every_pair = np.ones(len(questions), dtype=bool)
    sums, pairs = question_sums(coo_array(values), questions, every_pair)
    if len(pairs) < 2:  # noqa: PLR2004
        return None
    if len(values) == 1:
        limits = intervals(sums, pairs, RESAMPLES, seed)[:, 0]
    else:
        limits = np.quantile(_means_of_drawn_sets(sums, pairs, seed), TAILS)
    return [float(limit) for limit in limits]


def p_values(sums: csr_array, resamples: int, seed: int) -> Float64[np.ndarray, " rows"]:
    """Return each row's two-sided p-value for a mean of 0, from the sums over each question."""
    p = np.ones(sums.shape[0])
    totals = np.abs(_row_sums(sums))
    sizes = _row_sums(abs(sums))  # rounding is relative to them
    for rows, table in _resampled(sums, _signs, resamples, (seed, SIGN_STREAM)):
        reached = totals[rows, None] - RELATIVE_ROUNDING * sizes[rows, None]
        extreme = (np.abs(table) >= reached).sum(axis=1)
        p[rows] = (1 + extreme) / (1 + resamples)
    return p


def _row_sums(table: csr_array) -> Float64[np.ndarray, " rows"]:
    return np.asarray(table.sum(axis=1), dtype=np.float64).reshape(-1)


def _acceleration(
    sums: csr_array,
    pairs: Int64[np.ndarray, " questions"],
    means: Float64[np.ndarray, " rows"],
) -> Float64[np.ndarray, " rows"]:
    """Return a of each row: the skewness of U, multiplied out so that it stays sparse."""
    n = pairs.astype(np.float64)
    first, second = sums @ n, sums @ n**2  # sum of S n and S n^2, (rows,)
    squares = sums.power(2)
    u2 = _row_sums(squares) - 2 * means * first + means**2 * (n**2).sum()
    u3 = (
        _row_sums(sums.power(3))
        - 3 * means * (squares @ n)
        + 3 * means**2 * second
        - means**3 * (n**3).sum()
    )
    # Where all questions agree, only rounding is left, and there is no skewness.
    varies = u2 > RELATIVE_ROUNDING * _row_sums(squares)
    return np.where(varies, u3 / (6 * np.where(varies, u2, 1.0) ** 1.5), 0.0)


def _counts(rng: np.random.Generator, items: int, resamples: int) -> np.ndarray:
    """Draw items with replacement; return how often each was drawn, (items, resamples)."""
    drawn = rng.integers(items, size=(resamples, items))
    return np.stack([np.bincount(row, minlength=items) for row in drawn], axis=1)


def _signs(rng: np.random.Generator, items: int, resamples: int) -> np.ndarray:
    signs: np.ndarray = 2 * rng.integers(2, size=(items, resamples)) - 1
    return signs


def _weights(
    draw: Draw, items: int, resamples: int, stream: tuple[int, int]
) -> Iterator[tuple[slice, Float64[np.ndarray, "items block"]]]:
    """Yield, block by block, which resamples it is and the weight of each item in them."""
    for block, start in enumerate(range(0, resamples, RESAMPLES_PER_BLOCK)):
        # Drawn in full, so that the first resamples do not depend on how many there are.
        weights = draw(np.random.default_rng([*stream, block]), items, RESAMPLES_PER_BLOCK)
        stop = min(start + RESAMPLES_PER_BLOCK, resamples)
        yield slice(start, stop), weights[:, : stop - start].astype(np.float64)


def _resampled(
    sums: csr_array,
    draw: Draw,
    resamples: int,
    stream: tuple[int, int],
    pairs: Int64[np.ndarray, " questions"] | None = None,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield some rows at a time with their sums in all resamples, (rows, resamples).

    With the number of pairs of each question, means are yielded instead of sums.
    """
    row_count, questions = sums.shape
    size = max(1, MAX_RESAMPLED_MEANS // resamples)
    for start in range(0, row_count, size):
        rows = slice(start, min(start + size, row_count))
        part = sums[rows]
        table = np.empty((rows.stop - start, resamples))
        for columns, weights in _weights(draw, questions, resamples, stream):
            table[:, columns] = part @ weights
            if pairs is not None:
                table[:, columns] /= pairs @ weights
        yield rows, table


def _means_of_drawn_sets(
    sums: csr_array, pairs: Int64[np.ndarray, " questions"], seed: int
) -> Float64[np.ndarray, " resamples"]:
    """Return the mean over drawn sets and the pairs of drawn questions, in each resample."""
    sets, questions = sums.shape
    means = np.empty(RESAMPLES)
    of_sets = _weights(_counts, sets, RESAMPLES, (seed, SET_STREAM))
    of_questions = _weights(_counts, questions, RESAMPLES, (seed, QUESTION_STREAM))
    for (block, set_weights), (_, weights) in zip(of_sets, of_questions, strict=True):
        set_means = (sums @ weights) / (pairs @ weights)  # (sets, block)
        means[block] = (set_weights * set_means).sum(axis=0) / sets
    return means


def _quantile(
    table: Float64[np.ndarray, "rows resamples"], level: Float64[np.ndarray, " rows"]
) -> Float64[np.ndarray, " rows"]:
    """Return a quantile of each sorted row, each row at its own level, linearly interpolated."""
    place = level * (table.shape[1] - 1)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, table.shape[1] - 1)
    rows = np.arange(len(table))
    at_low, at_high = table[rows, low], table[rows, high]
    quantiles: np.ndarray = at_low + (place - low) * (at_high - at_low)
    return quantiles
