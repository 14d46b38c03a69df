"""Every number of the table is what plain loops over the result files give."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_scores import (
    adjusted,
    analyses,
    carrying,
    expected,
    grouped,
    made,
    occurring,
    of_pair,
    scored,
    source,
)
from scipy.sparse import csr_array
from statsmodels.stats.multitest import multipletests

from atp import select_features
from atp.features.table import COLUMNS
from atp.stats.bootstrap import intervals, p_values

ROOT = Path(__file__).parents[2]
QUICK: dict[str, Any] = {"min_log_ratio": None, "resamples": 200}


def same(found: Any, wanted: Any) -> bool:
    """Say whether a cell holds a number, up to rounding; None is NaN."""
    if wanted is None:
        return math.isnan(found)
    return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize(
    ("exact", "activations"),
    [("none", False), ("none", True), ("flagged", True), ("all", False)],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_every_number_is_that_of_plain_loops(
    tmp_path: Path, seed: int, exact: str, *, activations: bool
) -> None:
    path = source(tmp_path, questions=9, seed=seed)
    file = made(tmp_path / "out", path, seed=seed, exact=exact, activations=activations)

    table = select_features(file, **QUICK, epsilon=0.01).table

    rows = scored([file])
    seen = 0
    for name, value, members in grouped(rows):
        chosen = table[(table["group"] == name)]
        chosen = chosen[chosen["value"].isna() if value is None else chosen["value"] == value]
        assert set(chosen["feature"]) == occurring(members)
        for row in chosen.to_dict("records"):
            for column, wanted in expected(members, row["feature"], 0.01).items():
                assert same(row[column], wanted), (name, value, row["feature"], column)
        seen += len(chosen)
    assert seen == len(table) > 50


@pytest.mark.parametrize("exact", ["none", "flagged", "all"])
def test_intervals_and_p_values_are_those_of_the_sums_over_each_question(
    tmp_path: Path, exact: str
) -> None:
    inputs = [source(tmp_path, questions=6, seed=seed) for seed in (1, 2)]
    files = [
        made(tmp_path / "with", inputs[0], seed=1, exact=exact),
        made(tmp_path / "without", inputs[1], seed=2),
    ]

    table = select_features(*files, **QUICK, seed=4).table

    rows = scored(files)
    features = sorted(occurring(rows))
    over_all = table[table["group"] == "all"].set_index("feature").loc[features]
    for what, members in (("best", rows), ("score", rows), ("effect", carrying(rows))):
        questions = list(dict.fromkeys(row["question"] for row in members))
        sums = np.zeros((len(features), len(questions)))
        for row in members:
            for place, feature in enumerate(features):
                sums[place, questions.index(row["question"])] += of_pair(row, feature, what)
        pairs = np.array([sum(row["question"] == q for row in members) for q in questions], int)
        limits = intervals(csr_array(sums), pairs, 200, 4)
        for column, wanted in zip((f"mean_{what}_low", f"mean_{what}_high"), limits, strict=True):
            numbers = over_all[column]
            assert np.allclose(numbers, wanted, rtol=1e-9, atol=1e-12, equal_nan=True), column
        if what == "best":
            assert np.array_equal(over_all["p_value"], p_values(csr_array(sums), 200, 4))


def test_pairs_of_several_files_are_put_together_by_sae(tmp_path: Path) -> None:
    inputs = [source(tmp_path, seed=seed) for seed in (1, 2)]
    files = [made(tmp_path / f"{seed}", path, seed=seed) for seed, path in enumerate(inputs)]
    other = made(tmp_path / "other", inputs[0], of="b", seed=7)

    found = select_features(*files, other, **QUICK)

    assert [each.name for each in found.saes] == ["sae-a", "sae-b"]
    for each, of_sae in zip(found.saes, ([*files], [other]), strict=True):
        rows = scored(of_sae)
        assert each.pairs == len(rows)
        table = each.table[each.table["group"] == "all"].set_index("feature")
        assert set(table.index) == occurring(rows)
        for feature in table.index:
            wanted = expected(rows, feature, 1e-6)
            assert same(table.loc[feature, "mean_score"], wanted["mean_score"])
            assert table.loc[feature, "questions"] == wanted["questions"]


@pytest.mark.parametrize("exact", ["flagged", "all"])
def test_results_with_and_without_effects_count_the_pairs_that_carry_them(
    tmp_path: Path, exact: str
) -> None:
    inputs = [source(tmp_path, seed=seed) for seed in (1, 2)]
    files = [
        made(tmp_path / "with", inputs[0], seed=1, exact=exact, activations=True),
        made(tmp_path / "without", inputs[1], seed=2),
    ]

    table = select_features(*files, **QUICK).table

    rows = scored(files)
    assert 0 < expected(rows, 0, 1e-6)["effect_pairs"] < len(rows)
    for row in table[table["group"] == "all"].to_dict("records"):
        wanted = expected(rows, row["feature"], 1e-6)
        for column in ("mean_best", "effect_pairs", "mean_effect", "activation_pairs", "log_ratio"):
            assert same(row[column], wanted[column]), column


def test_q_values_are_those_of_benjamini_and_hochberg_in_each_group(tmp_path: Path) -> None:
    path = source(tmp_path, questions=12, seed=3)
    table = select_features(made(tmp_path / "out", path, seed=3), **QUICK).table

    for _, rows in table.groupby(["group", "value"], dropna=False):
        p_values = rows["p_value"].tolist()
        assert np.allclose(rows["q_value"], adjusted(p_values), rtol=1e-12)
        assert np.allclose(rows["q_value"], multipletests(p_values, method="fdr_bh")[1])
    assert table["p_value"].min() < 0.5


def test_a_group_of_one_question_has_no_interval(tmp_path: Path) -> None:
    path = source(tmp_path, questions=1, seed=5)

    table = select_features(made(tmp_path / "out", path, seed=5), **QUICK).table

    assert (table["questions"] == 1).all()
    limits = [f"mean_{what}_{end}" for what in ("best", "score") for end in ("low", "high")]
    assert table[limits].isna().all(axis=None)
    assert (table["p_value"] == 1).all()


def test_the_ratio_of_a_negative_mean_is_not_known(tmp_path: Path) -> None:
    path = source(tmp_path, questions=2, seed=5)
    found = analyses(path, seed=5, activations=True)
    for analysis in found.values():
        if "prompt_activations" in analysis:
            listed = analysis["prompt_activations"]
            listed["flagged"] = [-1 - number for number in listed["flagged"]]

    table = select_features(made(tmp_path / "out", path, found=found), **QUICK).table

    negative = table["mean_activation_flagged"] < 0
    assert negative.any()
    assert (table["log_ratio"].isna() == negative).all()


def test_the_documentation_names_every_column() -> None:
    text = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")

    documented = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert documented == list(COLUMNS)
