"""A bound for what was not measured, from a random sample of it: a one-sided tolerance limit.

The k-th smallest of n errors, drawn at random from a population, is a bound for a share of at least
p of it with confidence P(Binomial(n, p) < k), whatever the distribution of errors.

Wilks 1941, "Determination of Sample Sizes for Setting Tolerance Limits".
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

COVERAGE, CONFIDENCE = 0.95, 0.9


def upper_bound(errors: Sequence[float]) -> float | None:
    """Return a bound for a share COVERAGE of all errors; None for fewer than 45."""
    from scipy.special import bdtr  # noqa: PLC0415  (only runs with exact effects need it)

    n = len(errors)
    ranks = range(1, n + 1)
    k = bisect_left(ranks, CONFIDENCE, key=lambda rank: bdtr(rank - 1, n, COVERAGE))
    return sorted(errors)[k] if k < n else None
