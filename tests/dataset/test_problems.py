"""Every problem of an input is reported with its place, and the rest is still read."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from json_texts import json_texts
from scan_refusal import quick

from atp.dataset.input_scan import InputScan, scan_input
from atp.dataset.pairs import BrokenPair, Pair, Problem
from atp.dataset.reader import pairs
from atp.dataset.source import MAX_DIGITS
from atp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BASE = {"template_type": "base", "prompt": "Q", "response": "neutral", "sycophancy_flag": 0}
FLAGGED = {"template_type": "like", "prompt": "Q?", "response": "yes", "sycophancy_flag": 1}
GOOD = {"variations": [BASE, FLAGGED]}
TWICE = b'{"variations": [], "k": 1, "k": 2}'


def told(path: Path) -> tuple[InputScan, list[Problem]]:
    """Return what the scan finds and all the problems it tells."""
    problems: list[Problem] = []
    return scan_input(path, problems.append), problems


@pytest.mark.parametrize(
    ("element", "place", "refused"),
    [
        (3, "results[1]", True),
        ({"question_id": 1}, "results[1].variations", True),
        ({"variations": {}}, "results[1].variations", True),
        ({"variations": [BASE, "x"]}, "results[1].variations[1]", True),
        (
            {"variations": [BASE, {**FLAGGED, "sycophancy_flag": "maybe"}]},
            "results[1].variations[1].sycophancy_flag",
            True,
        ),
        ({"variations": [FLAGGED]}, "results[1].variations", False),
        (
            {"variations": [BASE, {**FLAGGED, "prompt": 3}]},
            "results[1].variations[1].prompt",
            False,
        ),
        (
            {"variations": [BASE, {**FLAGGED, "response": None}]},
            "results[1].variations[1].response",
            False,
        ),
        (
            {"variations": [{**BASE, "response": []}, FLAGGED]},
            "results[1].variations[0].response",
            False,
        ),
    ],
)
@pytest.mark.parametrize("name", ["input.json", "input.jsonl"])
def test_each_kind_of_problem_has_its_place_and_what_a_run_does(
    write: Callable[..., Path], element: Any, place: str, refused: bool, name: str
) -> None:
    elements = [GOOD, element, GOOD]
    lines = name.endswith("l")
    content = "\n".join(map(json.dumps, elements)).encode() if lines else {"results": elements}

    found, (problem,) = told(write(content, name))

    assert problem.place == place
    assert problem.message.startswith(place.partition(".")[0])
    assert problem.hint
    assert problem.refused == refused
    assert problem.line == (2 if lines else None)
    assert found.questions == 3
    assert found.pairs >= 2


def test_every_problem_of_a_file_is_reported_in_order(write: Callable[..., Path]) -> None:
    flagged = {**FLAGGED, "prompt": None, "response": 3}
    content = {
        "metadata": [],
        "results": [
            4,
            {"variations": [BASE, flagged, 7, {**FLAGGED, "sycophancy_flag": 2}, FLAGGED]},
            {"variations": [FLAGGED, FLAGGED]},
        ],
    }

    found, problems = told(write(content))

    assert [problem.place for problem in problems] == [
        "",
        "results[0]",
        "results[1].variations[2]",
        "results[1].variations[1].prompt",
        "results[1].variations[1].response",
        "results[1].variations[3].sycophancy_flag",
        "results[2].variations",
    ]
    assert (found.questions, found.pairs, found.broken_pairs) == (3, 4, 3)


def test_a_text_that_several_pairs_lack_is_reported_once(write: Callable[..., Path]) -> None:
    base = {**BASE, "response": None}

    _, problems = told(write({"results": [{"variations": [base, FLAGGED, FLAGGED]}]}))

    assert [problem.place for problem in problems] == ["results[0].variations[0].response"]


def test_pairs_beside_a_problem_are_used(write: Callable[..., Path]) -> None:
    path = write({"results": [{"variations": [BASE, 3, FLAGGED]}, 4, GOOD]})
    used: list[Pair | BrokenPair] = []

    scan_input(path, lambda problem: None, used.append)

    assert [str(pair.key) for pair in used] == [
        "results[0].variations[2]",
        "results[2].variations[1]",
    ]
    assert all(isinstance(pair, Pair) for pair in used)


def test_every_broken_line_is_named_and_the_next_is_read(write: Callable[..., Path]) -> None:
    good = json.dumps(GOOD).encode()
    deep = b'{"x": ' + b"[" * 300 + b"]" * 300 + b"}"
    path = write(b"\n".join([b"{", good, b"", b"[1] 2", TWICE, deep, b"\xff", good]), "x.jsonl")

    found, problems = told(path)

    assert [problem.line for problem in problems] == [1, 4, 5, 6, 7]
    assert all(problem.refused for problem in problems)
    assert (found.questions, found.pairs) == (3, 2)


@pytest.mark.parametrize("padding", [0, 200_000])
def test_what_stands_before_a_break_is_read(write: Callable[..., Path], padding: int) -> None:
    bad = {"variations": [BASE, 5]}
    text = json.dumps({"results": [GOOD, bad, GOOD]})[:-2] + ", " + " " * padding + "oops]}"
    path = write(text.encode())

    found, problems = told(path)

    assert [problem.place for problem in problems] == ["results[1].variations[1]", ""]
    assert "line 1, column" in problems[1].message
    assert (found.questions, found.pairs) == (3, 2)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_half_of_a_surrogate_pair_is_reported_with_its_byte(
    write: Callable[..., Path],
) -> None:
    text = rb'{"results": [{"variations": [], "a": "\ud83d", "b": "\udc00"}]}'

    found, problems = told(write(text))

    for half, problem in zip((rb"\ud83d", rb"\udc00"), problems, strict=True):
        assert f"at byte {text.index(half)}." in problem.message
    assert found.questions == 1


@pytest.mark.parametrize("name", ["input.json", "input.jsonl"])
def test_a_number_that_is_too_long_ends_the_reading_and_is_reported(
    write: Callable[..., Path], name: str
) -> None:
    long = b'{"variations": [], "n": ' + b"7" * (MAX_DIGITS + 1) + b"}"
    data = long if name.endswith("l") else b'{"results": [' + long + b"]}"
    path = write(data, name)

    found, (problem,) = told(path)

    assert problem.refused
    assert "digits" in problem.message
    assert found.sha256 == hashlib.sha256(data).hexdigest()


def test_top_level_fields_given_twice_are_reported_and_the_rest_is_read(
    write: Callable[..., Path],
) -> None:
    found, problems = told(write(b'{"a": 1, "a": 2, "results": [3], "b": 1, "b": 1}'))

    assert ["twice" in problem.message for problem in problems] == [True, True, False]
    assert found.questions == 1


def test_an_error_of_who_uses_the_pairs_is_not_taken_for_broken_json(
    write: Callable[..., Path],
) -> None:
    def fail(_: Pair | BrokenPair) -> None:
        msg = "of the user's own"
        raise ValueError(msg)

    with pytest.raises(ValueError, match="of the user's own"):
        scan_input(write({"results": [GOOD]}), lambda problem: None, fail)


@quick
@given(json_texts)
def test_a_run_refuses_exactly_what_is_reported_as_refused(scratch: Path, text: str) -> None:
    path = scratch / "any.json"
    path.write_text('{"results": [' + text + ', {"variations": [{"x": ' + text + "}]}]}")
    _, problems = told(path)
    fatal = [problem for problem in problems if problem.refused]

    if not fatal:
        assert scan_input(path).pairs == len(list(pairs(path)))
        return
    with pytest.raises(InputError) as caught:
        scan_input(path)
    assert fatal[0].message in caught.value.message
