"""A result file is read up to its metadata, and no further until its questions are needed."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from made_up_results import STARTED, of_all, result, shards, source

from atp.config.shard import Shard
from atp.dataset.reader import questions
from atp.dataset.result_files import as_written, first_difference, read_result
from atp.errors import InputError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The result of a whole run over eight pairs."""
    path = source(tmp_path)
    return result(tmp_path / "out", path, of_all(path))


def test_a_result_says_what_it_is_of(file: Path) -> None:
    found = read_result(file)

    assert found.metadata == json.loads(file.read_bytes())["metadata"]["atp"]
    assert found.started.isoformat() == STARTED
    assert found.metadata["complete"]
    assert found.shard is None
    assert found.sae == ("blocks.1.hook_resid_post", "d" * 64)


def test_all_shards_of_a_run_have_its_identity(tmp_path: Path) -> None:
    first, second = map(read_result, shards(tmp_path / "in", source(tmp_path), 2))
    (other,) = map(read_result, shards(tmp_path / "other", source(tmp_path), 1))

    assert (first.shard, second.shard) == (Shard(0, 2), Shard(1, 2))
    assert first.run == second.run != other.run
    assert first.fingerprint == other.fingerprint != first.metadata["fingerprint"]


def test_damage_behind_the_metadata_is_found_with_the_questions(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])

    found = read_result(file)

    with pytest.raises(InputError, match="is not valid JSON at line"):
        list(found.questions())


def test_damage_before_the_metadata_is_found_at_once(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])

    with pytest.raises(InputError, match="is not valid JSON at line"):
        read_result(file)


def test_the_questions_are_those_of_the_file_and_the_file_is_hashed_on_the_way(file: Path) -> None:
    found = read_result(file)

    assert list(found.questions()) == list(questions(file))
    assert (found.scan.questions, found.scan.pairs) == (4, 8)
    assert len(found.scan.sha256) == 64


def test_a_file_that_changes_after_its_metadata_is_read_is_refused(file: Path) -> None:
    found = read_result(file)
    file.write_bytes(file.read_bytes() + b"\n")

    with pytest.raises(InputError, match="was changed"):
        list(found.questions())


def test_metadata_may_stand_behind_the_questions(file: Path) -> None:
    content = json.loads(file.read_bytes())
    content["metadata"] = content.pop("metadata")
    file.write_text(json.dumps(content).replace("Infinity", "1e400"), encoding="utf-8")

    assert read_result(file).metadata == content["metadata"]["atp"]


@pytest.mark.parametrize("name", ["input.json", "input.jsonl"])
def test_an_input_is_no_result(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(
        '{"variations": []}\n{"variations": []}' if name[-1] == "l" else '{"results": []}'
    )

    with pytest.raises(InputError, match=f"{name} is no result of atp run"):
        read_result(path)


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({}, None),
        ({"settings": {"top_k": 7}}, "settings.top_k is 50 in one and 7 in the other"),
        ({"settings": {"limit": 7}}, None),
        ({"settings": {"new": 7}}, "settings.new is None in one and 7 in the other"),
        ({"source_sha256": "e"}, f"source_sha256 is {'c' * 64} in one and e in the other"),
        ({"versions": {"atp": "1"}}, None),
    ],
)
def test_the_first_difference_is_named_with_both_values(
    tmp_path: Path, changed: dict[str, Any], difference: str | None
) -> None:
    path = source(tmp_path)
    first, second = (
        read_result(result(tmp_path / name, path, {}, **(changed if name == "b" else {})))
        for name in ("a", "b")
    )
    may_differ = {"settings": {"limit", "out"}, "source_sha256": ()}

    assert first_difference(first, second, may_differ) == difference


def test_decimals_are_the_floats_again_that_atp_wrote() -> None:
    read = {"a": [Decimal("0.1"), 3, None, True], "b": {"c": Decimal("-0.0")}}

    assert repr(as_written(read)) == repr({"a": [0.1, 3, None, True], "b": {"c": -0.0}})


def test_a_number_beyond_all_floats_is_none_that_atp_wrote() -> None:
    with pytest.raises(ValueError, match="beyond all floats"):
        as_written([Decimal("1e400")])
