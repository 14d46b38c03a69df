"""Which files `atp report` takes, and what it says of those that it does not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from made_up_results import shards
from made_up_scores import made, sae, source

from atp.config.selection import SelectionSettings
from atp.dataset.result_files import read_result
from atp.errors import InputError
from atp.report.result_contents import read
from atp.report.sources import found_in

LATER = ("20260131_120000", "20260203_120000", "20260202_120000")
EARLIER = "20250131_120000"
SUMMARY = {
    "pairs": 1,
    "questions": 1,
    "skipped": 0,
    "errors": 0,
    "features": 2,
    "mean_before": 0.5,
    "selected": {
        "mean_after": 0.0,
        "mean_change": -0.5,
        "interval": None,
        "flips": 1.0,
        "side_effects": None,
    },
    "random": None,
    "negative": None,
    "verdict": "No random features were removed.",
}
FACTS = {
    "model": {"name": "tiny"},
    "input": {"sha256": "a" * 64},
    "features": {"saes": []},
    "settings": {"strength": 1.0, "spare_first": False},
}
RATES = {
    **{f"flagged_{cell}": 0 for cell in ("in_both", "before_only", "after_only", "in_neither")},
    "rate_before": 0.0,
    "difference": 0.0,
    "interval": None,
    "interval_clustered": None,
    "mcnemar_p": 1.0,
}
PAIR = {"pair": "results[0].variations[1]", "before": 0.5, "after": 0.0, "change": -0.5}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An input."""
    return source(tmp_path)


def intervention(folder: Path, time: str, **changed: Any) -> Path:
    """Write a report of `atp intervene`."""
    file = folder / f"atp_intervention_tiny_{time}.json"
    content = {"metadata": {"atp": FACTS}, "summary": SUMMARY, "pairs": [PAIR], **changed}
    file.write_text(json.dumps(content))
    return file


def comparison(folder: Path) -> Path:
    """Write a report of `atp intervene --compare`."""
    file = folder / "atp_comparison_tiny.json"
    file.write_text(json.dumps({"files": {}, "overall": RATES, "by_template_type": {}}))
    return file


def test_of_a_folder_the_newest_later_report_is_taken(tmp_path: Path, path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    reports = [intervention(folder, time) for time in (EARLIER, *LATER)]  # older than the result,
    result = made(folder, path)  # as in a copied folder: only their names have the times
    for kind in ("before", "before_labelled"):
        (folder / f"atp_intervention_tiny_20260204_120000_{kind}.json").write_text("{}")

    results, interventions, left_out = found_in([folder])

    assert [each.path for each in results] == [result]
    assert [each.path for each in interventions] == [reports[2]]
    assert left_out == []


def test_a_report_older_than_the_run_is_of_another_run(tmp_path: Path, path: Path) -> None:
    folder = tmp_path / "out"
    made(folder, path)
    intervention(folder, EARLIER)

    assert found_in([folder])[1] == []


def test_each_folder_has_its_own_intervention(tmp_path: Path, path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder, day in zip(folders, (1, 20), strict=True):
        made(folder, path, changed={"started": f"2026-02-{day:02}T12:00:00+00:00"})
    report = intervention(folders[0], "20260203_120000")  # before the second run began

    _, interventions, _ = found_in([*folders, tmp_path / "second"])

    assert [each.path for each in interventions] == [report]


def test_named_reports_are_taken(tmp_path: Path, path: Path) -> None:
    result = made(tmp_path / "out", path)
    reports = [intervention(tmp_path, EARLIER), comparison(tmp_path)]

    _, interventions, _ = found_in([result, *reports])

    assert [each.path for each in interventions] == reports
    assert [each.is_comparison for each in interventions] == [False, True]
    assert found_in(reports)[0] == []  # it opens without its result


def test_a_shard_opens(tmp_path: Path, path: Path) -> None:
    (file, *_) = shards(tmp_path / "out", path, 2, saes=[sae()])

    (result,), _, _ = found_in([file])

    assert result.shard is not None


@pytest.mark.parametrize(
    ("content", "wrong", "mend"),
    [
        ({"metadata": {"atp": {"features": {}, "settings": {}}}}, "as atp intervene", "again"),
        ({"metadata": {"atp": {"selection": {}}}}, "a file of atp features", "--config="),
        ({"metadata": {}}, "no result of atp run", "Name result files"),
    ],
)
def test_other_files_are_named(
    tmp_path: Path, content: dict[str, Any], wrong: str, mend: str
) -> None:
    file = tmp_path / "other.json"
    file.write_text(json.dumps(content))
    paths = [file, made(tmp_path / "out", source(tmp_path))] if wrong.startswith("as") else [file]

    with pytest.raises(InputError, match=wrong) as error:
        found_in(paths)

    assert "other.json" in error.value.message
    assert mend in error.value.hint


@pytest.mark.parametrize(
    "changed",
    [
        {"summary": {**SUMMARY, "random": {"sets": 4}}},
        {"summary": {**SUMMARY, "selected": {**SUMMARY["selected"], "interval": "wide"}}},
        {"metadata": {"atp": {name: FACTS[name] for name in FACTS if name != "input"}}},
        {"pairs": [1]},
        {"pairs": [{**PAIR, "before": "0.5"}]},
        {"pairs": [{**PAIR, "target_token": 5}]},
    ],
)
def test_an_edited_report_is_named(tmp_path: Path, changed: dict[str, Any]) -> None:
    file = intervention(tmp_path, EARLIER, **changed)

    with pytest.raises(InputError, match="as atp intervene") as error:
        found_in([file])

    assert str(file) in error.value.message


@pytest.mark.parametrize(
    "changed",
    [
        {"exact": {"features": 3, "pearson": "0.9", "sign_agreement": 1.0}},
        {"means": "x"},
        {"path": {"complete": False}},
        {"versions": None, "sae": {"d_sae": "64"}},
    ],
)
def test_edited_metadata_is_named(tmp_path: Path, path: Path, changed: dict[str, Any]) -> None:
    file = made(tmp_path / "out", path)
    content = json.loads(file.read_text())
    metadata = content["metadata"]["atp"]
    for name, value in changed.items():
        metadata[name] = {**metadata[name], **value} if name == "sae" else value
    file.write_text(json.dumps(content))

    with pytest.raises(InputError, match="not as atp writes it") as error:
        found_in([file])

    assert str(file) in error.value.message


@pytest.mark.parametrize("feature", ["-3", "9" * 20])
def test_a_feature_that_no_dictionary_has_is_one_line(
    tmp_path: Path, path: Path, feature: str
) -> None:
    file = made(tmp_path / "out", path)
    text = re.sub(r'("id": ?)"[0-9]+"', rf'\1"{feature}"', file.read_text(), count=1)
    file.write_text(text)

    with pytest.raises(InputError, match="not as atp writes it"):
        read("sae", read_result(file), SelectionSettings(resamples=100, min_log_ratio=None))
