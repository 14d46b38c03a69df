"""A page holds the numbers of the result, the texts of the input, and the table of features."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up_scores import ERROR, analyses, analysis, made, sae, source
from page_blocks import json_of, table

from atp import select_features
from atp.config.selection import SelectionSettings
from atp.dataset.journal import outcome
from atp.dataset.reader import pairs as pairs_of
from atp.errors import InputError
from atp.report.page_data import page_data
from atp.report.result_contents import names_of, read
from atp.report.sources import found_in

QUICK = SelectionSettings(resamples=100)


def data_of(*files: Path, settings: SelectionSettings = QUICK) -> tuple[dict[str, Any], Any]:
    """Return the overview and the blocks of a page of some files."""
    results, interventions, _ = found_in(files)
    saes = [result.metadata["sae"] for result in results]
    contents = [
        read(name, result, settings) for name, result in zip(names_of(saes), results, strict=True)
    ]
    overview, blocks = page_data(contents, interventions, {}, "now")
    json.dumps(overview, allow_nan=False)
    return overview, blocks


def analyses_in(file: Path) -> list[dict[str, Any]]:
    """Return every analysis of a result file."""
    content = json.loads(file.read_text(encoding="utf-8"))
    return [
        variation["atp_analysis"]
        for question in content["results"]
        for variation in question["variations"]
        if "atp_analysis" in variation
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An input."""
    return source(tmp_path)


@pytest.mark.parametrize("exact", ["none", "flagged", "all"])
def test_every_number_that_a_pair_lists_is_there(tmp_path: Path, path: Path, exact: str) -> None:
    file = made(tmp_path / "in", path, exact=exact)

    _, blocks = data_of(file)

    pairs, _ = table(blocks["r0-pairs"])
    listed, _ = table(blocks["r0-listed"])
    found = analyses_in(file)
    assert len(pairs["metric"]) == len(found)
    assert [outcome(each) for each in found] == pairs["outcome"]
    for number, each in enumerate(found):
        if outcome(each) != "scored":
            assert pairs["reason"][number] == each.get("skipped", each.get("error"))
            assert math.isnan(pairs["metric"][number])
            assert listed["start"][number] == listed["start"][number + 1]
            continue
        assert pairs["metric"][number] == np.float32(each["logit_diff"])
        assert pairs["target_token"][number] == each["target_token"]
        explained = each["diagnostics"]["variance_explained"]
        assert pairs["variance_explained"][number] == np.float32(explained)
        rows = range(listed["start"][number], listed["start"][number + 1])
        assert [str(listed["feature"][row]) for row in rows] == [
            feature["id"] for feature in each["top_features"]
        ]
        for row, feature in zip(rows, each["top_features"], strict=True):
            for name in ("score", "activation", "relative_size"):
                assert listed[name][row] == np.float32(feature[name])
            if "effect" in feature:
                assert listed["effect"][row] == np.float32(feature["effect"])
            else:
                assert "effect" not in listed or math.isnan(listed["effect"][row])


def test_the_features_are_those_of_atp_features(tmp_path: Path, path: Path) -> None:
    file = made(tmp_path / "in", path, activations=True, exact="flagged")

    overview, blocks = data_of(file)

    features, _ = table(blocks["r0-features"])
    expected = select_features(file, resamples=100)
    rows = expected.table[expected.table["group"] == "all"].set_index("feature")
    (selected,) = expected.selected.values()
    assert overview["results"][0]["selection"]["selected"] == selected
    assert [str(each) for each in features["feature"][: len(selected)]] == selected
    for name in ("mean_best", "mean_best_low", "mean_score", "log_ratio", "q_value", "frequency"):
        in_order = rows.loc[features["feature"], name].to_numpy()
        np.testing.assert_array_equal(in_order, features[name])

    groups, _ = table(blocks["r0-groups"])
    described = overview["results"][0]["groups"]
    for row, (feature, group) in enumerate(zip(groups["feature"], groups["group"], strict=True)):
        name, value = described[group]["group"], described[group]["value"]
        same = expected.table["value"].isna() if value is None else expected.table["value"] == value
        of_group = expected.table[(expected.table["group"] == name) & same]
        (mean,) = of_group.loc[of_group["feature"] == feature, "mean_best"]
        assert groups["mean_best"][row] == np.float32(mean)


def test_each_pair_has_its_texts(tmp_path: Path) -> None:
    rng = random.Random(1)  # noqa: S311
    words = ["да", "yes", "</script>", "🌊" * 9000, "\u202eright", "x" * 120_000]
    questions = [
        {
            "variations": [
                {"template_type": "", "prompt": "base", "response": f"{number}{words[-1]}"},
                *(
                    {
                        "template_type": f"t{n}",
                        "prompt": rng.choice(words),
                        "response": rng.choice(words),
                        "sycophancy_flag": 1,
                    }
                    for n in range(3)
                ),
            ]
        }
        for number in range(12)
    ]
    path = tmp_path / "input.json"
    path.write_text(json.dumps({"results": questions}), encoding="utf-8")
    overview, blocks = data_of(made(tmp_path / "in", path))

    first = overview["results"][0]["texts"]["first"]
    assert len(first) > 1
    found = []
    for number in range(len(first)):
        block = json_of(blocks[f"r0-texts-{number}"])
        assert len(found) == first[number]
        assert len(set(block["texts"])) == len(block["texts"])
        found += [[block["texts"][index] for index in pair] for pair in block["pairs"]]
    expected = [[p.prompt, p.target_response, p.base_response] for p in pairs_of(path)]
    assert found == expected


def test_results_of_one_input_share_their_texts(tmp_path: Path, path: Path) -> None:
    one = made(tmp_path / "one", path)
    other = made(tmp_path / "two", path, of="b", seed=3)
    further = made(tmp_path / "three", source(tmp_path, seed=4))

    overview, blocks = data_of(one, other, further)

    assert [each["texts"]["of"] for each in overview["results"]] == [0, 0, 2]
    assert [name for name in blocks if "-texts-" in name] == ["r0-texts-0", "r2-texts-0"]
    assert len({each["name"] for each in overview["results"]}) == 3


def test_results_of_one_dictionary_are_compared(tmp_path: Path, path: Path) -> None:
    files = [made(tmp_path / name, path, seed=n) for n, name in enumerate(("before", "after"))]
    files.append(made(tmp_path / "other", path, of="b"))

    overview, blocks = data_of(*files)

    assert overview["compare"] == [{"a": 0, "b": 1}]
    columns, _ = table(blocks["compare-0-1"])
    for name, file in zip(("mean_a", "mean_b"), files, strict=False):
        rows = select_features(file, resamples=100).table
        means = rows[rows["group"] == "all"].set_index("feature")["mean_best"]
        expected = [means.get(feature, 0.0) for feature in columns["feature"]]
        assert columns[name] == expected


def test_logits_are_not_compared_with_log_probabilities(tmp_path: Path, path: Path) -> None:
    in_nats = analyses(path)
    for each in in_nats.values():
        if "logit_diff" in each:
            each["log_prob_diff"] = each.pop("logit_diff")
    files = [made(tmp_path / "first", path), made(tmp_path / "sequence", path, found=in_nats)]

    overview, _ = data_of(*files)

    assert {result["metric"] for result in overview["results"]} == {"logit_diff", "log_prob_diff"}
    assert overview["compare"] == []


def test_effects_are_set_against_scores_those_of_samples_included(
    tmp_path: Path, path: Path
) -> None:
    found = analyses(path, exact="flagged")
    sampled = 0
    for each in found.values():
        if outcome(each) == "scored":
            sample = {"id": "63", "score": 0.25, "relative_size": 0.125, "effect": 0.5}
            each["diagnostics"]["exact"]["sample"] = sample
            sampled += 1

    _, blocks = data_of(made(tmp_path / "in", path, found=found))

    columns, header = table(blocks["r0-agreement"])
    listed = sum("effect" in f for each in found.values() for f in each.get("top_features", ()))
    assert header["total"] == len(columns["score"]) == listed + sampled
    rows = zip(*(columns[name] for name in ("feature", "score", "effect")), strict=True)
    assert list(rows).count((63, 0.25, 0.5)) == sampled


def test_a_result_with_errors_only_says_so(tmp_path: Path, path: Path) -> None:
    found = {pair.key: ERROR for pair in pairs_of(path)}

    overview, blocks = data_of(made(tmp_path / "in", path, found=found))

    (result,) = overview["results"]
    assert result["strongest"] == []
    assert result["selection"] is None
    assert result["reasons"] == [("error", "OOM", len(found))]
    assert (
        result["answer"]["en"][0] == "No pair has a score, so nothing can be said about features."
    )
    assert table(blocks["r0-features"])[0]["feature"] == []


def test_what_an_old_result_lacks_is_missing(tmp_path: Path, path: Path) -> None:
    found = analyses(path)
    for each in found.values():
        for feature in each.get("top_features", ()):
            feature.pop("relative_size", None)

    _, blocks = data_of(made(tmp_path / "in", path, found=found))

    columns, _ = table(blocks["r0-listed"])
    assert set(columns) == {"feature", "score", "activation", "start"}
    assert "r0-agreement" not in blocks


@pytest.mark.parametrize("name", ["score", "relative_size"])
def test_a_number_beyond_float32_is_not_as_atp_writes_it(
    tmp_path: Path, path: Path, name: str
) -> None:
    found = analyses(path)
    next(iter(found.values()))["top_features"][0][name] = 1e39

    with pytest.raises(InputError, match="is not as atp writes it"):
        data_of(made(tmp_path / "in", path, found=found))


def test_tokens_of_a_prompt_come_with_the_scores_in_them(tmp_path: Path, path: Path) -> None:
    rng = random.Random(0)  # noqa: S311
    found = {pair.key: analysis(rng) for pair in pairs_of(path)}
    first = next(iter(found.values()))
    first["prompt_tokens"] = ["<bos>", " a", " b"]
    for feature in first["top_features"]:
        feature["token_scores"] = {"positions": [0, 2], "scores": [0.5, -0.25]}

    overview, blocks = data_of(made(tmp_path / "in", path, found=found))

    assert overview["results"][0]["positions"] == {"first": [0]}
    of_pairs = json_of(blocks["r0-positions-0"])
    assert of_pairs[0]["tokens"] == ["<bos>", " a", " b"]
    assert of_pairs[0]["features"][first["top_features"][0]["id"]] == [[0, 0.5], [2, -0.25]]
    assert of_pairs[1] is None


def test_the_strongest_are_named_in_the_answer(tmp_path: Path, path: Path) -> None:
    overview, _ = data_of(made(tmp_path / "in", path, exact="flagged"))

    (result,) = overview["results"]
    strongest = pd.DataFrame(result["strongest"])
    which, sure, *_ = result["answer"]["en"]
    for direction, rows in strongest.groupby("direction"):
        assert (rows["mean_best"] > 0).all() == (direction == "promotes")
        for row in rows.head(3).itertuples():
            mean = f"{row.mean_best:+.3g}".replace("-", "\N{MINUS SIGN}")
            assert f"{row.feature} ({mean})" in which
    assert result["sae"] == sae()
    rows = select_features(tmp_path / "in", resamples=100).table
    q_values = rows[rows["group"] == "all"]["q_value"]
    found = (q_values <= 0.05).sum()
    assert f"Of all {len(q_values)} features, {found} have a q-value" in sure
