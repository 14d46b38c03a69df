"""Tests and intervals of two rates over the same items: statsmodels, formulas, exact coverage."""

from __future__ import annotations

import math

import pytest
from scipy.stats import binom
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from atp.stats.proportions import mcnemar, newcombe


@pytest.mark.parametrize(("before", "after"), [(0, 0), (5, 0), (3, 9), (10, 10), (40, 15)])
def test_mcnemar_is_statsmodels(before: int, after: int) -> None:
    theirs = their_mcnemar([[7, before], [after, 11]], exact="all").pvalue

    assert mcnemar(before, after) == pytest.approx(min(1.0, float(theirs)) if before + after else 1)


@pytest.mark.parametrize(("before", "after", "n"), [(8, 8, 16), (4, 12, 16), (50, 20, 100)])
def test_of_uncorrelated_answers_newcombe_is_the_interval_of_independent_rates(
    before: int, after: int, n: int
) -> None:
    both = before * after / n  # so that phi is 0
    low, high = newcombe(int(both), before - int(both), after - int(both), n)

    theirs = confint_proportions_2indep(after, n, before, n, method="newcomb", compare="diff")
    assert both == int(both)
    assert (low, high) == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("both", "before", "after", "n"), [(20, 12, 3, 50), (0, 0, 0, 9), (9, 0, 0, 9), (3, 5, 40, 60)]
)
def test_newcombe_is_the_formula_with_wilsons_limits(
    both: int, before: int, after: int, n: int
) -> None:
    """Newcombe 1998, method 10, with the limits of statsmodels."""
    neither = n - both - before - after
    p1, p2 = (both + after) / n, (both + before) / n
    (l1, u1), (l2, u2) = (proportion_confint(p * n, n, method="wilson") for p in (p1, p2))
    a, b, c, d = both, after, before, neither
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    products = a * d - b * c
    phi = max(products - n / 2, 0) if products > 0 else products
    phi = phi / math.sqrt(margins) if margins else 0.0
    down, up = p1 - l1, u2 - p2
    delta = math.sqrt(down**2 - 2 * phi * down * up + up**2)
    down, up = u1 - p1, p2 - l2
    epsilon = math.sqrt(down**2 - 2 * phi * down * up + up**2)

    expected = (p1 - p2 - delta, p1 - p2 + epsilon)
    assert newcombe(both, before, after, n) == pytest.approx(expected)


def test_newcombe_turns_with_the_files() -> None:
    low, high = newcombe(20, 12, 3, 50)

    assert newcombe(20, 3, 12, 50) == pytest.approx([-high, -low])


def test_newcombe_holds_the_true_difference_as_often_as_it_says() -> None:
    n, up, down, both = 30, 0.1, 0.3, 0.3
    held = 0.0
    for changed in range(n + 1):  # exact: all tables of given discordance, the rest split evenly
        weight = binom.pmf(changed, n, up + down)
        for ups in range(changed + 1):
            share = binom.pmf(ups, changed, up / (up + down))
            same = round((n - changed) * both / (1 - up - down))
            low, high = newcombe(same, changed - ups, ups, n)
            held += weight * share * (low <= up - down <= high)

    assert 0.93 <= held <= 0.985
