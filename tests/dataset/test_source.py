"""The input's bytes are refused where they are no Unicode text, wherever a chunk may end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusal import in_string, quick, refused

from atp.dataset.reader import questions
from atp.dataset.source import BYTE_ORDER_MARK, CHUNK
from atp.dataset.survey import survey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HIGH, LOW = rb"\ud83d", rb"\uDE00"


@pytest.mark.parametrize(
    "text",
    [
        HIGH,
        LOW,
        LOW + HIGH,
        HIGH + HIGH + LOW,
        HIGH + LOW + LOW,
        HIGH + b" " + LOW,
        rb"\\" + HIGH,
        rb"\"" + LOW,
        HIGH + rb"\\ude00",
        rb"\\ud83d" + LOW,
        HIGH + rb"\u0041",
        rb"\uDBFF",
        rb"\udc00",
    ],
)
@pytest.mark.parametrize("name", ["input.json", "input.jsonl"])
def test_half_of_a_surrogate_pair_is_refused(
    write: Callable[..., Path], text: bytes, name: str
) -> None:
    question = b'{"variations": [], "note": "' + text + b'"}'
    content = question if name.endswith("l") else b'{"results": [' + question + b"]}"

    assert "surrogate" in refused(write(content, name))


@pytest.mark.parametrize("mark", [b"", BYTE_ORDER_MARK], ids=["plain", "marked"])
def test_half_of_a_surrogate_pair_is_named_by_its_byte(
    write: Callable[..., Path], mark: bytes
) -> None:
    content = mark + in_string(b"x" * 100 + LOW)

    assert f"at byte {content.index(LOW)}." in refused(write(content))


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (HIGH + LOW, "\U0001f600"),
        (HIGH + LOW + HIGH + LOW, "\U0001f600\U0001f600"),
        (rb"\\\\" + HIGH + LOW, "\\\\\U0001f600"),
        (rb"\\ud83d", r"\ud83d"),
        (rb"\\\\ude00", r"\\ude00"),
        (rb"\ud7ff\ue000\uffff", "\ud7ff\ue000\uffff"),
        ("😀".encode(), "😀"),
        (rb"\ufffd", "\ufffd"),
    ],
)
def test_whole_pairs_and_escaped_backslashes_are_accepted(
    write: Callable[..., Path], text: bytes, meaning: str
) -> None:
    path = write(in_string(text))

    assert survey(path).questions == 1
    assert next(questions(path))["note"] == meaning


AROUND_A_CHUNK = range(CHUNK - 13, CHUNK + 2)


@pytest.mark.parametrize("at", AROUND_A_CHUNK)
@pytest.mark.parametrize("before", [b"x", HIGH + LOW, rb"\\"])
@pytest.mark.parametrize("after", [b"x", rb"\u0041"])
def test_a_pair_split_over_two_chunks_is_accepted(
    write: Callable[..., Path], at: int, before: bytes, after: bytes
) -> None:
    padding = b"x" * (at - len(before) - in_string(b"").index(b'"}'))
    path = write(in_string(padding + before + HIGH + LOW + after))

    assert path.read_bytes().index(before + HIGH, CHUNK - 40) == at - len(before)
    assert survey(path).questions == 1
    assert "\U0001f600" in next(questions(path))["note"]


@pytest.mark.parametrize("at", AROUND_A_CHUNK)
@pytest.mark.parametrize("half", [HIGH, LOW, HIGH + HIGH + LOW, HIGH + LOW + LOW])
def test_a_half_pair_at_the_end_of_a_chunk_is_refused(
    write: Callable[..., Path], at: int, half: bytes
) -> None:
    padding = b"x" * (at - in_string(b"").index(b'"}'))

    assert "surrogate" in refused(write(in_string(padding + half)))


@pytest.mark.parametrize("backslashes", range(60, 64))
@pytest.mark.parametrize("before", range(25, 30))
def test_a_run_of_backslashes_over_two_chunks_is_counted_as_one(
    write: Callable[..., Path], backslashes: int, before: int
) -> None:
    start = CHUNK - before
    padding = b"x" * (start - in_string(b"").index(b'"}'))
    path = write(in_string(padding + b"\\" * backslashes + b"ud83d"))

    if backslashes % 2:
        assert "surrogate" in refused(path)
    else:
        assert survey(path).questions == 1


ESCAPES = [HIGH, LOW, rb"\\", rb"\"", b"ud83d", b"ude00", b"u", b"a", rb"\u0041", b"d83d"]


@quick
@given(
    parts=st.lists(st.sampled_from(ESCAPES), max_size=12),
    shift=st.integers(-40, 3),
    far=st.booleans(),
)
def test_a_string_is_accepted_exactly_when_it_is_unicode_text(
    scratch: Path, parts: list[bytes], shift: int, *, far: bool
) -> None:
    padding = b"x" * (CHUNK + shift - in_string(b"").index(b'"}')) if far else b""
    path = scratch / "unicode.json"
    path.write_bytes(in_string(padding + b"".join(parts)))
    text = json.loads(path.read_bytes())["results"][0]["note"]

    if any("\ud800" <= character <= "\udfff" for character in text):
        assert "surrogate" in refused(path)
    else:
        assert survey(path).questions == 1
        assert next(questions(path))["note"] == text
