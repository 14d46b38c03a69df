"""Intervals cover what they say, p-values are those of the whole enumeration, and both repeat."""

from __future__ import annotations

import itertools
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.sparse import coo_array, csr_array

from atp.stats import bootstrap
from atp.stats.bootstrap import (
    RESAMPLES,
    interval_of_mean,
    intervals,
    p_values,
    question_sums,
)

Matrix = np.ndarray


def made(
    features: int, questions: int, seed: int = 0, density: float = 0.5
) -> tuple[Matrix, Matrix]:
    """Return sums of random questions, (features, questions), and how many pairs each has."""
    rng = np.random.default_rng(seed)
    pairs = rng.integers(1, 6, size=questions)
    sums = rng.gamma(1.0, 1.0, size=(features, questions)) * pairs - 0.3
    return np.where(rng.random(sums.shape) < density, sums, 0.0), pairs


def blocks(items: int, resamples: int, seed: int, stream: int) -> list[Matrix]:
    """Return the items that are drawn in each resample."""
    drawn = [
        row
        for block in range(-(-resamples // 250))
        for row in np.random.default_rng([seed, stream, block]).integers(items, size=(250, items))
    ]
    return drawn[:resamples]


def slow_interval(sums: Matrix, pairs: Matrix, resamples: int, seed: int) -> tuple[float, float]:
    """Return the BCa limits of one feature's mean, from the formulas, one resample at a time."""
    normal = NormalDist()
    mean = sum(sums) / sum(pairs)
    found = sorted(
        sum(sums[q] for q in row) / sum(int(pairs[q]) for q in row)
        for row in blocks(len(pairs), resamples, seed, 0)
    )
    equal = [abs(value - mean) < 1e-9 * abs(mean) for value in found]
    below = sum(v < mean and not e for v, e in zip(found, equal, strict=True)) + sum(equal) / 2
    bias = normal.inv_cdf(min(max(below, 0.5), resamples - 0.5) / resamples)
    u = [s - mean * n for s, n in zip(sums, pairs, strict=True)]
    acceleration = sum(x**3 for x in u) / (6 * sum(x**2 for x in u) ** 1.5)
    limits = []
    for tail in (0.025, 0.975):
        shifted = bias + normal.inv_cdf(tail)
        level = normal.cdf(bias + shifted / (1 - acceleration * shifted))
        limits.append(float(np.quantile(found, level)))
    return limits[0], limits[1]


@pytest.mark.parametrize(("questions", "density"), [(30, 1.0), (30, 0.3), (12, 0.15), (2, 1.0)])
def test_intervals_are_those_of_the_formulas(questions: int, density: float) -> None:
    sums, pairs = made(6, questions, seed=questions, density=density)
    sums[:, 0] += 0.1  # else a feature that occurs nowhere has no skewness

    low, high = intervals(csr_array(sums), pairs, 700, 3)

    for feature in range(6):
        wanted = slow_interval(sums[feature], pairs, 700, 3)
        assert np.allclose((low[feature], high[feature]), wanted, rtol=1e-7, atol=1e-9)


def test_with_one_pair_a_question_intervals_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    values = rng.gamma(1.0, 1.0, size=60)

    low, high = intervals(csr_array(values[None]), np.ones(60, dtype=np.int64), 9999, 0)

    reference = stats.bootstrap((values,), np.mean, method="BCa", rng=1, n_resamples=9999)
    width = reference.confidence_interval.high - reference.confidence_interval.low
    assert abs(low[0] - reference.confidence_interval.low) < 0.03 * width
    assert abs(high[0] - reference.confidence_interval.high) < 0.03 * width


def test_95_percent_intervals_cover_about_95_percent() -> None:
    """Pairs of a question share an effect; the features occur in all questions, or in half."""
    rng = np.random.default_rng(5)
    questions, repetitions = 100, 400
    pairs = rng.integers(1, 5, size=questions)
    hits = {}
    for occurring in (1.0, 0.5):
        shared = rng.exponential(1.0, size=(repetitions, questions))
        present = rng.random(shared.shape) < occurring
        own = rng.normal(size=shared.shape) * np.sqrt(pairs) * 0.5
        sums = present * (shared * pairs + own)
        low, high = intervals(csr_array(sums), pairs, 1000, 0)
        hits[occurring] = ((low <= occurring) & (occurring <= high)).mean()
    for share in hits.values():
        assert 0.92 <= share <= 0.975, hits


def test_single_pairs_drawn_in_place_of_questions_would_not_cover() -> None:
    rng = np.random.default_rng(6)
    shared = rng.normal(size=(400, 60))
    each = shared[:, :, None] + 0.3 * rng.normal(size=(400, 60, 5))

    share = {}
    for name, sums, pairs in (
        ("questions", each.sum(axis=2), np.full(60, 5)),
        ("pairs", each.reshape(400, 300), np.ones(300, dtype=np.int64)),
    ):
        low, high = intervals(csr_array(sums), pairs, 500, 0)
        share[name] = ((low <= 0) & (high >= 0)).mean()
    assert share["questions"] > 0.91
    assert share["pairs"] < 0.75


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(-4, 4), min_size=2, max_size=9))
def test_p_values_are_those_of_all_signs(sums: list[int]) -> None:
    total = abs(sum(sums))
    signs = itertools.product((-1, 1), repeat=len(sums))
    extreme = [abs(sum(s * x for s, x in zip(each, sums, strict=True))) >= total for each in signs]
    exact = sum(extreme) / len(extreme)

    # Divided: what is equal in the integers differs by rounding here.
    (found,) = p_values(csr_array(np.array([sums]) / 7.0), 4000, 1)

    assert abs(found - exact) < 5 * np.sqrt(exact * (1 - exact) / 4000) + 1e-3


def test_where_the_mean_is_0_p_values_are_as_often_small_as_they_say() -> None:
    rng = np.random.default_rng(2)
    pairs = rng.integers(1, 4, size=80)

    found = p_values(csr_array(rng.standard_t(3, size=(3000, 80)) * pairs), 500, 0)
    skewed = p_values(csr_array((rng.exponential(1.0, size=(3000, 80)) - 1) * pairs), 500, 0)

    for level in (0.05, 0.2, 0.5):
        assert abs((found <= level).mean() - level) < 0.02, level
    # As docs/features.md says: strongly skewed sums of few questions are called rare too often.
    assert 0.05 < (skewed <= 0.05).mean() < 0.08


def test_no_p_value_is_below_what_so_many_resamples_can_tell() -> None:
    assert p_values(csr_array(np.ones((1, 200))), 499, 0) == 1 / 500


def test_a_feature_of_one_question_proves_nothing() -> None:
    sums = np.zeros((1, 50))
    sums[0, 7] = 9.0

    assert p_values(csr_array(sums), 500, 0) == 1.0
    low, high = intervals(csr_array(sums), np.ones(50, dtype=np.int64), 500, 0)
    assert low == 0
    assert high > 9 / 50


def test_where_all_questions_agree_the_interval_is_a_point() -> None:
    pairs = np.arange(1, 40)

    low, high = intervals(csr_array(0.1 * pairs[None]), pairs, 500, 0)

    assert np.allclose([low, high], 0.1, rtol=1e-12)


def test_the_numbers_of_a_feature_do_not_depend_on_others_or_on_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sums, pairs = made(20, 30)
    whole = intervals(csr_array(sums), pairs, 600, 4), p_values(csr_array(sums), 600, 4)

    monkeypatch.setattr(bootstrap, "MAX_RESAMPLED_MEANS", 1800)  # three features at a time
    parts = intervals(csr_array(sums), pairs, 600, 4), p_values(csr_array(sums), 600, 4)
    alone = intervals(csr_array(sums[7:8]), pairs, 600, 4), p_values(csr_array(sums[7:8]), 600, 4)

    for first, second in zip(whole, parts, strict=True):
        assert first.tobytes() == second.tobytes()
    assert whole[0][:, 7].tobytes() == alone[0][:, 0].tobytes()
    assert whole[1][7] == alone[1][0]


def test_another_seed_is_another_draw() -> None:
    sums, pairs = made(3, 30)

    assert (
        intervals(csr_array(sums), pairs, 300, 1) != intervals(csr_array(sums), pairs, 300, 2)
    ).any()
    assert (p_values(csr_array(sums), 300, 1) != p_values(csr_array(sums), 300, 2)).any()


# --- of values by pair, of one or several sets


def test_sums_are_those_of_the_counted_pairs_of_each_question() -> None:
    rng = np.random.default_rng(0)
    questions = rng.integers(3, 11, size=40)
    counted = rng.random(40) < 0.6
    values = rng.normal(size=(5, 40)) * (rng.random((5, 40)) < 0.5)

    sums, sizes = question_sums(coo_array(values), questions, counted)

    names = sorted(set(questions[counted].tolist()))
    assert sizes.tolist() == [int(((questions == name) & counted).sum()) for name in names]
    for column, name in enumerate(names):
        wanted = values[:, (questions == name) & counted].sum(axis=1)
        assert np.allclose(sums.toarray()[:, column], wanted)


def test_the_interval_of_one_set_is_that_of_its_sums() -> None:
    rng = np.random.default_rng(1)
    questions, values = rng.integers(12, size=30), rng.normal(size=(1, 30))

    found = interval_of_mean(values, questions, 3)

    sums, pairs = question_sums(coo_array(values), questions, np.ones(30, dtype=bool))
    assert found == intervals(sums, pairs, RESAMPLES, 3)[:, 0].tolist()


def test_of_several_sets_sets_and_questions_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 600)
    rng = np.random.default_rng(2)
    questions, values = rng.integers(8, size=30), rng.normal(size=(4, 30))

    found = interval_of_mean(values, questions, 5)

    names = np.unique(questions)
    draws = zip(blocks(len(names), 600, 5, 0), blocks(4, 600, 5, 2), strict=True)
    means = []
    for drawn_questions, drawn_sets in draws:
        pairs = [i for q in drawn_questions for i in np.flatnonzero(questions == names[q])]
        means.append(np.mean([values[s, i] for s in drawn_sets for i in pairs]))
    assert found == pytest.approx(np.quantile(means, [0.025, 0.975]).tolist())


def test_the_interval_of_independent_pairs_is_that_of_their_mean() -> None:
    values = np.random.default_rng(0).normal(1.0, 2.0, size=400)
    low, high = interval_of_mean(values[None], np.arange(400), 0) or [0, 0]
    half = 1.96 * values.std() / 20

    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)


def test_pairs_of_a_question_that_repeat_each_other_make_the_interval_no_narrower() -> None:
    values = np.random.default_rng(0).normal(size=40)
    once = interval_of_mean(values[None], np.arange(40), 0)
    repeated = interval_of_mean(np.repeat(values, 10)[None], np.repeat(np.arange(40), 10), 0)

    assert once == pytest.approx(repeated)


def test_sets_that_differ_make_the_interval_wider_than_one_set() -> None:
    values = np.zeros((4, 30)) + np.array([-3.0, -1.0, 1.0, 3.0])[:, None]

    assert interval_of_mean(values[:1], np.arange(30), 0) == [-3.0, -3.0]
    low, high = interval_of_mean(values, np.arange(30), 0) or [0, 0]
    assert low < -1 < 1 < high


@pytest.mark.slow
def test_intervals_over_sets_cover_about_95_percent() -> None:
    """Each set has an effect of its own, and so has each question."""
    rng = np.random.default_rng(7)
    hits = []
    for _ in range(150):
        values = rng.normal(size=(20, 1)) + rng.normal(size=40) + rng.normal(size=(20, 40))
        low, high = interval_of_mean(values, np.arange(40), 0) or [0, 0]
        hits.append(low <= 0 <= high)
    assert 0.88 <= np.mean(hits) <= 0.99


def test_one_question_gives_no_interval() -> None:
    assert interval_of_mean(np.ones((1, 3)), np.array([3, 3, 3]), 0) is None
    assert interval_of_mean(np.ones((2, 3)), np.array([3, 3, 3]), 0) is None
