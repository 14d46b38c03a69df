"""The rules for any input, written a second time: whether atp refuses it, or the result it gives.

Only Python's own `json` is used, and the whole file is in memory.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

MAX_DEPTH, MAX_DIGITS = 200, 10_000
BASE = {"base", "(base)", ""}
FLAGGED, NOT_FLAGGED = {"1", "true", "1.0"}, {"0", "false", "0.0", "", "none", "null"}
REASONS = {
    "skipped": {"Empty response", "No differing tokens found in first 20 positions"},
    "error": {
        "Base response missing",
        "Base response not text",
        "Empty prompt",
        "No base variation",
        "Prompt missing",
        "Prompt not text",
        "Response missing",
        "Response not text",
        "Sequence too long",
    },
}
"""Every reason that an input may be given; any other one is a fault of atp."""


class RefusedError(Exception):
    """Why atp must refuse the file."""


class Object(list[tuple[str, Any]]):
    """A JSON object as its members, in order; a name may stand there twice."""

    def __repr__(self) -> str:
        """Return what tells it from a list."""
        return f"Object({super().__repr__()})"

    def get(self, name: str) -> Any:
        """Return the value of a member, or None."""
        return next((value for key, value in self if key == name), None)

    def has(self, name: str) -> bool:
        """Say whether there is such a member."""
        return any(key == name for key, _ in self)

    def without(self, name: str) -> Object:
        """Return the object without a member."""
        return Object(member for member in self if member[0] != name)


def _refuse(why: str) -> NoReturn:
    raise RefusedError(why)


def _number(text: str) -> int | Decimal:
    if max(map(len, re.findall(r"\d+", text))) > MAX_DIGITS:
        _refuse("a number of too many digits")
    try:
        return int(text) if text.lstrip("-").isdigit() else Decimal(text)
    except InvalidOperation:
        _refuse("an exponent beyond all numbers")


def tree(text: str) -> Any:
    """Return a JSON text with every digit and every member."""
    return json.loads(
        text,
        parse_int=_number,
        parse_float=_number,
        parse_constant=lambda name: _refuse(f"{name} is no JSON"),
        object_pairs_hook=Object,
    )


def _parsed(data: bytes, depth: int) -> Any:
    """Return what a text holds, nested `depth` levels at most."""
    # The parser takes \v and \f between tokens, too; that alters nothing.
    spaced = re.sub(rb'"(?:[^"\\]|\\.)*"|[\v\f]', lambda m: m[0] if m[0][0] == 34 else b" ", data)
    try:
        value = tree(spaced.decode())
        _check(value, depth)
    except (ValueError, RecursionError) as error:
        _refuse(f"no JSON: {error}")
    return value


def _check(value: Any, depth: int) -> None:
    """Refuse what cannot be written back: deep nesting, halves of characters, names given twice."""
    if isinstance(value, str):
        value.encode()  # half of a surrogate pair is a ValueError
    elif isinstance(value, list):
        if depth == 0:
            _refuse("nested too deeply")
        if isinstance(value, Object) and len({key for key, _ in value}) < len(value):
            _refuse("a name that is given twice")
        for item in value:
            for part in item if isinstance(item, tuple) else (item,):
                _check(part, depth - 1)


def questions_of(data: bytes, *, lines: bool) -> tuple[Object, list[Any]]:
    """Return the top level of a file, and its questions.

    Raises:
        RefusedError: atp must refuse the file.
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    if lines:
        questions = [_parsed(line, MAX_DEPTH) for line in data.split(b"\n") if line.strip()]
        top = Object([("results", questions)])
    else:
        top = _parsed(data, MAX_DEPTH + 1)
        if not isinstance(top, Object) or type(top.get("results")) is not list:
            _refuse("no list of results")
        if top.has("results.item"):
            _refuse("a name that the parser takes for the questions")
        questions = top.get("results")
    if top.has("metadata") and not isinstance(top.get("metadata"), Object):
        _refuse("metadata is no object")
    for question in questions:
        _check_question(question)
    return top, questions


def _check_question(question: Any) -> None:
    if not isinstance(question, Object) or type(question.get("variations")) is not list:
        _refuse("no question")
    for variation in question.get("variations"):
        if not isinstance(variation, Object):
            _refuse("no variation")
        if _flag(variation) not in FLAGGED | NOT_FLAGGED:
            _refuse("no flag")


def _flag(variation: Object) -> str:
    flag = variation.get("sycophancy_flag")
    return "no flag" if isinstance(flag, list) else str(flag).strip().lower()


def _is_base(variation: Object) -> bool:
    template = variation.get("template_type")
    return template is None or (isinstance(template, str) and template.strip().lower() in BASE)


def expected(question: Object) -> dict[int, set[str]]:
    """Return the variations that are paired, and what may be said of each: "scored" or a reason."""
    variations = question.get("variations")
    base = next((number for number, each in enumerate(variations) if _is_base(each)), None)
    found = {}
    for number, variation in enumerate(variations):
        if _flag(variation) in FLAGGED and number != base:
            found[number] = _outcomes(variation, None if base is None else variations[base])
    return found


def _outcomes(variation: Object, base: Object | None) -> set[str]:
    if base is None:
        return {"No base variation"}
    prompt, target, neutral = (
        variation.get("prompt"),
        variation.get("response"),
        base.get("response"),
    )
    for name, value in (("Prompt", prompt), ("Response", target), ("Base response", neutral)):
        if not isinstance(value, str):
            return {f"{name} {'missing' if value is None else 'not text'}"}
    if not target or not neutral:
        return {"Empty response"}
    return {
        "scored",
        "No differing tokens found in first 20 positions",
        "Sequence too long",
        "Empty prompt",
    } - ({"scored"} if target == neutral else set())


def outcome(analysis: Object) -> tuple[str, str]:
    """Return "scored", "skipped" or "error", and the reason."""
    for kind, reasons in REASONS.items():
        if analysis.has(kind):
            assert analysis.get(kind) in reasons, analysis
            return kind, analysis.get(kind)
    assert len(analysis.get("top_features")) > 0, analysis
    return "scored", "scored"


def check_result(data: bytes, result: bytes, *, lines: bool, failed: bool) -> dict[str, int]:
    """Hold a result file against its input; return how many pairs were scored, skipped, failed.

    Raises:
        AssertionError: it is not the input plus what belongs there.
    """
    top, questions = questions_of(data, lines=lines)
    whole = tree(result.decode())
    told = whole.get("metadata").get("atp")
    counts = {"scored": 0, "skipped": 0, "error": 0}
    assert len(whole.get("results")) == len(questions)
    for question, written in zip(questions, whole.get("results"), strict=True):
        variations, came_out = question.get("variations"), written.get("variations")
        pairs = expected(question)
        assert len(came_out) == len(variations)
        for number, variation in enumerate(variations):
            assert repr(came_out[number].without("atp_analysis")) == repr(
                variation.without("atp_analysis")
            )
            assert came_out[number].has("atp_analysis") == (number in pairs)
            if number in pairs:
                kind, reason = outcome(came_out[number].get("atp_analysis"))
                assert reason in pairs[number]
                counts[kind] += 1
        names = [key for key, _ in written]
        assert names == [key for key, _ in question]
        assert repr(written.without("variations")) == repr(question.without("variations"))
    metadata = top.get("metadata") or Object()
    assert repr(whole.get("metadata").without("atp")) == repr(metadata.without("atp"))
    for part in (top, whole):
        part[:] = part.without("metadata").without("results")
    assert repr(whole) == repr(top)
    assert told.get("complete") is True
    pairs = sum(counts.values())
    assert dict(told.get("counts")) == {
        "questions": len(questions),
        "pairs": pairs,
        **counts,
        "pending": 0,
    }
    assert failed == (counts["error"] > 0)
    return counts
