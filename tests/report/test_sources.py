"""Which files `atp report` takes, and what it says of those that it does not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from made_up_results import shards
from made_up_scores import made, source

from atp.errors import InputError
from atp.report.sources import found_in

SUMMARY = {"selected": {"mean_change": -0.5}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An input."""
    return source(tmp_path)


def intervention(folder: Path, time: float, **changed: Any) -> Path:
    """Write a report of `atp intervene`, of which only what tells it from others is there."""
    file = folder / f"atp_intervention_tiny_{time:.0f}.json"
    content = {
        "metadata": {"atp": {"features": {}, "settings": {}}},
        "summary": SUMMARY,
        "pairs": [],
        **changed,
    }
    file.write_text(json.dumps(content))
    os.utime(file, (time, time))
    return file


def comparison(folder: Path) -> Path:
    """Write a report of `atp intervene --compare`."""
    file = folder / "atp_comparison_tiny.json"
    file.write_text(json.dumps({"files": {}, "overall": {}, "by_template_type": {}}))
    return file


def test_of_a_folder_the_newest_later_report_is_taken(tmp_path: Path, path: Path) -> None:
    folder = tmp_path / "out"
    result = made(folder, path)
    ran = result.stat().st_mtime
    for later in (-50, 50, 100):
        newest = intervention(folder, ran + later)
    (folder / "atp_intervention_tiny_9_before.json").write_text("{}")

    results, interventions, left_out = found_in([folder])

    assert [each.path for each in results] == [result]
    assert [each.path for each in interventions] == [newest]
    assert left_out == []


def test_a_report_older_than_the_run_is_of_another_run(tmp_path: Path, path: Path) -> None:
    folder = tmp_path / "out"
    result = made(folder, path)
    intervention(folder, result.stat().st_mtime - 50)

    assert found_in([folder])[1] == []


def test_named_reports_are_taken(tmp_path: Path, path: Path) -> None:
    result = made(tmp_path / "out", path)
    reports = [intervention(tmp_path, 5), comparison(tmp_path)]

    _, interventions, _ = found_in([result, *reports])

    assert [each.path for each in interventions] == reports
    assert [each.is_comparison for each in interventions] == [False, True]
    assert found_in(reports)[0] == []  # it opens without its result


def test_a_shard_opens(tmp_path: Path, path: Path) -> None:
    (file, *_) = shards(tmp_path / "out", path, 2)

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
