"""The thresholds take what they say, one after the other, and the rest is ranked."""

from __future__ import annotations

from typing import Any

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from atp.config.selection import SelectionSettings
from atp.features.selection import select

FREE = {"min_score": -1e9, "min_log_ratio": None}


def table(**columns: list[Any]) -> pd.DataFrame:
    """Return features whose columns are as given, and harmless else."""
    count = len(next(iter(columns.values())))
    harmless = {"mean_best": 1.0, "log_ratio": 1.0, "q_value": 0.0}
    ignored = {"mean_score": -9.0, "mean_effect": -9.0, "pairs": 3, "effect_pairs": 3}
    filled = {name: [value] * count for name, value in {**harmless, **ignored}.items()}
    return pd.DataFrame({"feature": range(count), **filled, **columns})


def chosen(found: pd.DataFrame, **options: Any) -> list[int]:
    """Return the selected features."""
    return list(map(int, select(found, SelectionSettings(**{**FREE, **options})).selected))


def test_the_mean_must_be_above_the_threshold() -> None:
    found = table(mean_best=[0.2, 0.0, -0.1, 0.3])

    assert chosen(found, min_score=0.0) == [3, 0]
    assert chosen(found, min_score=0.2) == [3]
    assert chosen(found, min_score=-0.1) == [3, 0, 1]


def test_the_ratio_must_be_above_the_threshold_and_known() -> None:
    found = table(log_ratio=[0.5, 0.51, float("nan"), 3.0])

    assert chosen(found, min_log_ratio=0.5) == [1, 3]
    assert chosen(found, min_log_ratio=None) == [0, 1, 2, 3]


def test_the_size_of_the_mean_must_reach_the_impact() -> None:
    assert chosen(table(mean_best=[0.4, 0.3, -0.5]), min_impact=0.4) == [0, 2]


def test_the_false_discovery_rate_is_compared_with_the_q_value() -> None:
    found = table(q_value=[0.05, 0.06, 0.01])

    assert chosen(found, fdr=0.05) == [0, 2]
    assert chosen(found, fdr=None) == [0, 1, 2]


def test_the_top_features_are_those_of_greatest_mean_ties_by_number() -> None:
    found = table(mean_best=[0.1, 0.3, 0.3, 0.2])

    assert chosen(found, top_features=3) == [1, 2, 3]
    assert chosen(found.iloc[::-1].reset_index(drop=True), top_features=3) == [1, 2, 3]


def test_as_many_negative_features_are_told_the_most_negative_first() -> None:
    found = table(mean_best=[0.4, -0.3, -0.5, 0.2, -0.1, 0.0])

    assert select(found, SelectionSettings(min_log_ratio=None)).negative == ["2", "1"]
    assert select(found, SelectionSettings(min_log_ratio=None, top_features=1)).negative == ["2"]
    fewer = table(mean_best=[0.4, 0.1, -0.5, 0.2])
    assert select(fewer, SelectionSettings(min_log_ratio=None)).negative == ["2"]


def test_each_threshold_tells_what_it_took() -> None:
    found = table(
        mean_best=[0.5, -1.0, 0.4, 0.3, 0.2, 0.1],
        log_ratio=[9.0, 9.0, 0.1, 9.0, 9.0, 9.0],
        q_value=[0.0, 0.0, 0.0, 0.9, 0.0, 0.0],
    )

    selection = select(found, SelectionSettings(min_impact=0.2, fdr=0.05, top_features=1))

    assert selection.selected == ["0"]
    assert [(step.threshold, step.took, step.left) for step in selection.steps] == [
        ("--min-score=0", 1, 5),
        ("--min-log-ratio=0.5", 1, 4),
        ("--min-impact=0.2", 1, 3),
        ("--fdr=0.05", 1, 2),
        ("--top-features=1", 1, 1),
    ]
    assert selection.reason.startswith("--min-score=0 took 1, --min-log-ratio=0.5 took 1, --min-i")


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(*[st.sampled_from([-1.0, 0.0, 0.5, 1.0])] * 3), max_size=8),
    st.tuples(*[st.sampled_from([-0.5, 0.0, 0.5])] * 2),
    st.integers(1, 5),
)
def test_what_is_selected_is_what_passes_all_thresholds(
    rows: list[tuple[float, float, float]], limits: tuple[float, float], count: int
) -> None:
    scores, ratios, q_values = (
        (list(column) for column in zip(*rows, strict=True)) if rows else ([],) * 3
    )
    found = table(mean_best=scores, log_ratio=ratios, q_value=q_values)
    thresholds = SelectionSettings(
        min_score=limits[0], min_log_ratio=limits[1], fdr=0.5, top_features=count
    )

    selection = select(found, thresholds)

    passing = [
        i
        for i, (score, ratio, q) in enumerate(rows)
        if score > limits[0] and ratio > limits[1] and q <= 0.5
    ]
    ranked = sorted(passing, key=lambda i: (-scores[i], i))
    assert selection.selected == list(map(str, ranked[:count]))
    assert sum(step.took for step in selection.steps) + len(selection.selected) == len(rows)
