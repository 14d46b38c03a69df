"""Two rates over the same items, before and after: an interval and a test of their difference."""

from __future__ import annotations

import math

from scipy.stats import binomtest


def mcnemar(only_before: int, only_after: int) -> float:
    """Return the two-sided p of McNemar's exact test; 1 where nothing changed."""
    changed = only_before + only_after
    return float(binomtest(only_before, changed, 0.5).pvalue) if changed else 1.0


def newcombe(both: int, only_before: int, only_after: int, n: int) -> list[float]:
    """Return the 95 % interval of the rate after minus the rate before.

    Newcombe 1998, method 10: https://doi.org/10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C
    """
    neither = n - both - only_before - only_after
    before, after = both + only_before, both + only_after
    # The correlation of the two answers to one item, with Newcombe's continuity correction.
    margins = after * (n - after) * before * (n - before)
    numerator: float = both * neither - only_before * only_after
    if numerator > 0:
        numerator = max(0.0, numerator - n / 2)
    phi = numerator / math.sqrt(margins) if margins > 0 else 0.0

    def distance(of_after: float, of_before: float) -> float:
        squared = of_after**2 - 2 * phi * of_after * of_before + of_before**2
        return math.sqrt(max(0.0, squared))

    rate_before, rate_after = before / n, after / n
    wilson_before, wilson_after = (
        binomtest(count, n).proportion_ci(method="wilson") for count in (before, after)
    )
    difference = rate_after - rate_before
    return [
        difference - distance(rate_after - wilson_after.low, wilson_before.high - rate_before),
        difference + distance(rate_before - wilson_before.low, wilson_after.high - rate_after),
    ]
