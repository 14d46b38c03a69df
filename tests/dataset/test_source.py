"""The input's bytes are refused where they are no Unicode text, wherever a chunk may end."""

from __future__ import annotations

import json
import os
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scan_refusal import in_string, quick, refused

from atp.dataset.input_scan import scan_input
from atp.dataset.reader import questions
from atp.dataset.source import BYTE_ORDER_MARK, CHUNK, MAX_DIGITS, GrowingPieces

if TYPE_CHECKING:
    from collections.abc import Callable

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

    assert scan_input(path).questions == 1
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
    assert scan_input(path).questions == 1
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
        assert scan_input(path).questions == 1


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
        assert scan_input(path).questions == 1
        assert next(questions(path))["note"] == text


# --- numbers of many digits


@pytest.mark.parametrize("before", [b"", b"-", b"0.", b"1e"])
@pytest.mark.parametrize("shift", [0, CHUNK - 5000, CHUNK - 100, 3 * CHUNK - 9000])
def test_a_number_of_too_many_digits_is_refused_and_named_by_its_byte(
    write: Callable[..., Path], before: bytes, shift: int
) -> None:
    note = in_string(b"x" * shift).removesuffix(b"}]}")
    content = note + b', "n": ' + before + b"7" * (MAX_DIGITS + 1) + b"}]}"

    line = refused(write(content))

    assert f"more than 10,000 digits at byte {content.index(b'7' * 9)}." in line


@pytest.mark.parametrize("shift", [0, CHUNK - 5000, CHUNK - 100])
def test_a_number_of_as_many_digits_as_may_be_is_read(
    write: Callable[..., Path], shift: int
) -> None:
    note = in_string(b"x" * shift).removesuffix(b"}]}")
    path = write(note + b', "n": [' + b"7" * MAX_DIGITS + b", 0." + b"7" * MAX_DIGITS + b"]}]}")

    assert scan_input(path).questions == 1
    assert str(next(questions(path))["n"][0]) == "7" * MAX_DIGITS


@quick
@given(
    before=st.sampled_from([b"", rb"\"", rb"\\", rb"\\\"", b", 1"]),
    shift=st.integers(CHUNK - 60, CHUNK + 5),
    after=st.sampled_from([b"", rb"\"", rb"\\", b" " + b"9" * 20_000]),
)
@example(before=rb"\"", shift=0, after=b" " + b"9" * 70_000)
def test_digits_in_a_text_are_no_number(
    scratch: Path, before: bytes, shift: int, after: bytes
) -> None:
    text = b"x" * shift + before + b"9" * 20_000 + after
    path = scratch / "digits.json"
    path.write_bytes(in_string(text))

    assert scan_input(path).questions == 1
    assert next(questions(path))["note"] == json.loads(b'"' + text + b'"')


@pytest.mark.parametrize("name", ["input.json", "input.jsonl"])
def test_a_number_behind_texts_of_digits_is_still_refused(
    write: Callable[..., Path], name: str
) -> None:
    texts = b'{"variations": [], "9\\"": "' + b"9" * 90_000 + b'\\\\", "n": ' + b"9" * 90_000 + b"}"
    content = texts if name.endswith("l") else b'{"results": [' + texts + b"]}"

    assert "digits at byte 90" in refused(write(content, name))


# --- long texts


def test_pieces_grow_while_one_text_continues_and_only_then() -> None:
    text = b'["' + b'abc \\" ' * 40 + b'", ' + b"1.5e3, [true], " * 40 + b'"", 1' + b" " * 100
    file = GrowingPieces(BytesIO(text))

    pieces = list(iter(lambda: file.read(20), b""))

    assert b"".join(pieces) == text
    sizes = [len(piece) for piece in pieces[:-1]]
    assert sizes[:4] == [20, 40 // 2, 40, 80]  # the first one holds the quote that opens the text
    assert max(sizes) == 160
    assert set(sizes[len(sizes) // 2 :]) == {20}


@pytest.mark.parametrize("text", [rb"\\", b"abc ", rb"\" ", "詩".encode(), rb"\u0041"])
@pytest.mark.parametrize("name", ["input.json", "input.jsonl"])
def test_a_text_of_megabytes_is_read_as_it_is(
    write: Callable[..., Path], text: bytes, name: str
) -> None:
    whole = text * (3_000_000 // len(text))
    question = b'{"variations": [], "note": "' + whole + b'"}'
    path = write(question if name.endswith("l") else b'{"results": [' + question + b"]}", name)

    assert scan_input(path).questions == 1
    assert next(questions(path))["note"] == json.loads(b'"' + whole + b'"')


# --- what is no file


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    """Opening it would wait for a writer."""
    os.mkfifo(tmp_path / "input.json")

    assert "pipe or a device" in refused(tmp_path / "input.json")


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused(name: str) -> None:
    assert "pipe or a device" in refused(Path(name))


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "input.json").symlink_to(tmp_path / "gone")

    assert "does not exist" in refused(tmp_path / "input.json")


def test_a_link_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "input.json").symlink_to(tmp_path / "input.json")

    assert "cannot be read" in refused(tmp_path / "input.json")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_named(write: Callable[..., Path]) -> None:
    path = write({"results": []})
    path.chmod(0)

    assert "permission denied" in refused(path)
