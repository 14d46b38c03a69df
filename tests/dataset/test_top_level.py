"""A key that stands twice in an object is refused with its place: a value of it would be lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scan_refusal import quick, refused

from atp.dataset.input_scan import scan_input

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GOOD = b'{"variations": [], "a": {"k": 1}, "b": {"k": 1}}'


@pytest.mark.parametrize(
    ("question", "place", "key"),
    [
        (b'{"variations": [], "n": 1, "n": 2}', "results[1]", "n"),
        (b'{"variations": [], "n": 1, "n": 1}', "results[1]", "n"),
        (b'{"variations": [], "n": null, "n": null}', "results[1]", "n"),
        (b'{"variations": [{"response": "a", "response": "b"}]}', "results[1]", "response"),
        (b'{"variations": [], "x": {"y": [0, {"z": 1, "z": 2}]}}', "results[1]", "z"),
        (b'{"variations": [], "x": {"a": {"k": 1, "k": 2}}, "x": 3}', "results[1]", "k"),
        (b'{"variations": [], "": 1, "": 2}', "results[1]", "''"),
        (b'{"variations": [], "\\u0061": 1, "a": 2}', "results[1]", "a"),
    ],
)
@pytest.mark.parametrize("name", ["input.json", "input.jsonl"])
def test_a_key_that_stands_twice_is_refused_with_its_place(
    write: Callable[..., Path], question: bytes, place: str, key: str, name: str
) -> None:
    elements = [GOOD, question, GOOD]
    lines = name.endswith("l")
    path = write(
        b"\n".join(elements) if lines else b'{"results": [' + b", ".join(elements) + b"]}", name
    )

    line = refused(path)

    assert place in line
    assert key in line
    assert "twice" in line
    assert ("line 2" in line) == lines


def test_a_key_twice_beside_the_results_is_refused(write: Callable[..., Path]) -> None:
    path = write(b'{"metadata": {"run": {"a": 1, "a": 2}}, "results": []}')

    assert "metadata holds 'a' twice" in refused(path)


def test_each_is_reported_at_its_own_question_though_a_chunk_holds_many(
    write: Callable[..., Path],
) -> None:
    twice = b'{"variations": [], "k": 1, "k": 2}'
    path = write(b'{"results": [' + b", ".join([GOOD, twice, GOOD, twice, GOOD]) + b"]}")
    told: list[int | None] = []

    scan_input(path, lambda problem: told.append(problem.question))

    assert told == [1, 3]


def test_elements_that_are_no_objects_count_as_well(write: Callable[..., Path]) -> None:
    path = write(b'{"results": [1, "a", [], [{"k": 1}, {"k": 1}], {"k": 1, "k": 2}]}')
    told: list[str] = []

    scan_input(path, lambda problem: told.append(problem.message))

    assert [message for message in told if "twice" in message] == [
        "results[4] holds 'k' twice in one object."
    ]


@quick
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=4))
def test_an_object_is_refused_exactly_when_a_key_repeats(
    scratch: Path, members: list[tuple[str, int]]
) -> None:
    inner = ", ".join(f"{json.dumps(key)}: {value}" for key, value in members)
    path = scratch / "keys.json"
    path.write_text('{"results": [{"variations": [], "inner": {' + inner + "}}]}")

    if len({key for key, _ in members}) < len(members):
        assert "results[0] holds" in refused(path)
    else:
        assert scan_input(path).questions == 1
