"""The reader yields every question with its exact numbers, and names the place of every fault."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tracemalloc
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from json_texts import json_texts, strings
from scan_refusal import in_string, quick, refused

from atp.dataset import reader
from atp.dataset.input_scan import InputScan, scan_input
from atp.dataset.pairs import BrokenPair, Pair, PairKey
from atp.dataset.reader import pairs, questions
from atp.dataset.source import BYTE_ORDER_MARK, CHUNK
from atp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BASE = {"template_type": "base", "prompt": "Q", "response": "neutral", "sycophancy_flag": 0}
FLAGGED = {"template_type": "like", "prompt": "Q?", "response": "yes", "sycophancy_flag": 1}
QUESTION = {"question_id": "q1", "variations": [BASE, FLAGGED]}
BROKEN = {"question_id": "q2", "variations": [FLAGGED]}


def json_lines(*elements: Any) -> bytes:
    """Return JSON Lines."""
    return b"".join(json.dumps(element).encode() + b"\n" for element in elements)


# --- what is accepted


def test_json_yields_the_elements_of_results_in_order(write: Callable[..., Path]) -> None:
    path = write({"metadata": {"a": 1}, "results": [QUESTION, BROKEN]})

    assert list(questions(path)) == [QUESTION, BROKEN]


@pytest.mark.parametrize("name", ["input.jsonl", "input.ndjson", "INPUT.JSONL"])
def test_json_lines_yields_its_lines_in_order(write: Callable[..., Path], name: str) -> None:
    path = write(json_lines(QUESTION, BROKEN), name)

    assert list(questions(path)) == [QUESTION, BROKEN]


def test_the_scan_counts_questions_pairs_and_broken_pairs(write: Callable[..., Path]) -> None:
    path = write({"results": [QUESTION, BROKEN, {"variations": []}]})

    found = scan_input(path)

    assert (found.questions, found.pairs, found.broken_pairs) == (3, 2, 1)


@pytest.mark.parametrize("name", ["input.json", "input.jsonl"])
@pytest.mark.parametrize("mark", [b"", BYTE_ORDER_MARK], ids=["plain", "marked"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_byte_order_mark_and_line_ends_change_only_the_hash(
    write: Callable[..., Path], name: str, mark: bytes, newline: bytes
) -> None:
    lines = json_lines(QUESTION, BROKEN)
    text = json.dumps({"results": [QUESTION, BROKEN]}, indent=1).encode() + b"\n"
    data = mark + (lines if name.endswith("l") else text).replace(b"\n", newline)
    path = write(data, name)

    found = scan_input(path)

    assert list(questions(path)) == [QUESTION, BROKEN]
    assert found.pairs == 2
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert found.size == len(data)


def test_json_lines_may_lack_the_last_newline_and_hold_blank_lines(
    write: Callable[..., Path],
) -> None:
    path = write(
        b"\n" + json_lines(QUESTION) + b"  \r\n\n" + json.dumps(BROKEN).encode(), "x.jsonl"
    )

    assert list(questions(path)) == [QUESTION, BROKEN]
    assert [pair.key for pair in pairs(path)] == [PairKey(0, 1), PairKey(1, 0)]


@pytest.mark.parametrize("length", [CHUNK - 20, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_line_may_be_longer_than_a_chunk(write: Callable[..., Path], length: int) -> None:
    long = {"note": "x" * length, "variations": []}
    path = write(json_lines(QUESTION, long, BROKEN), "input.jsonl")

    assert list(questions(path)) == [QUESTION, long, BROKEN]


@pytest.mark.parametrize(("content", "name"), [(b'{"results": []}', "a.json"), (b"", "a.jsonl")])
def test_no_questions_is_an_input_without_pairs(
    write: Callable[..., Path], content: bytes, name: str
) -> None:
    path = write(content, name)

    assert scan_input(path).questions == 0
    assert list(pairs(path)) == []


def test_the_top_level_keeps_the_fields_before_and_after_results(
    write: Callable[..., Path],
) -> None:
    content = (
        b'{"z": 1.10, "metadata": {"b": [1, {"c": null}], "a": 2}, "results": [{"variations": []}],'
        b' "after": {"results": [1]}, "last": "\\u4f60"}'
    )
    path = write(content)

    assert list(scan_input(path).top_level.items()) == [
        ("z", Decimal("1.10")),
        ("metadata", {"b": [1, {"c": None}], "a": 2}),
        ("results", None),
        ("after", {"results": [1]}),
        ("last", "你"),
    ]


def test_json_lines_has_no_top_level_but_results(write: Callable[..., Path]) -> None:
    assert scan_input(write(json_lines(QUESTION), "input.jsonl")).top_level == {"results": None}


def test_the_scan_knows_the_file_it_read(write: Callable[..., Path]) -> None:
    path = write({"results": []})

    found = scan_input(path)

    assert isinstance(found, InputScan)
    assert found.path == path
    assert found.modified_ns == path.stat().st_mtime_ns


def test_the_hash_covers_what_follows_the_json(write: Callable[..., Path]) -> None:
    data = b'{"results": []}' + b" \n" * CHUNK

    assert scan_input(write(data)).sha256 == hashlib.sha256(data).hexdigest()


def test_a_file_name_may_hold_any_character(write: Callable[..., Path]) -> None:
    path = write({"results": [QUESTION]}, "ответы 答え {x}.json")

    assert scan_input(path).pairs == 1


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 100])
def test_a_limit_keeps_the_first_pairs(write: Callable[..., Path], limit: int) -> None:
    path = write({"results": [QUESTION, BROKEN, QUESTION]})
    everything = list(pairs(path))

    assert list(pairs(path, limit=limit)) == everything[:limit]


def test_pairs_come_in_input_order_broken_ones_included(write: Callable[..., Path]) -> None:
    path = write({"results": [QUESTION, BROKEN]})

    first, second = pairs(path)

    assert first == Pair(PairKey(0, 1), "Q?", "yes", "neutral", "Q")
    assert isinstance(second, BrokenPair)
    assert second.key == PairKey(1, 0)


def test_pairs_beyond_the_limit_are_not_read(write: Callable[..., Path]) -> None:
    path = write({"results": [QUESTION, BROKEN, "no question"]})

    assert len(list(pairs(path, limit=1))) == 1


# --- what is refused


@pytest.mark.parametrize(
    "content",
    [
        b"",
        BYTE_ORDER_MARK,
        b" \n ",
        b'{"results": [',
        b'{"results": [{"variations": [{"prompt": "half of a str',
        b'{"results": [{"variations": []}]',
        b'{"results": [], "more": tr',
    ],
)
def test_a_truncated_file_is_refused_as_such(write: Callable[..., Path], content: bytes) -> None:
    line = refused(write(content))

    assert "truncated" in line
    assert "line" in line


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"results", "line 1, column 1"),
        (b'{"results": [],}', "line 1, column 1"),
        (b'{\n "results": [x]\n}', "line 2, column 14"),
        (b"{'results': []}", "line 1, column 2"),
        (b'{"results": [{"variations": []} {"variations": []}]}', "line 1, column 33"),
        (b'{"results": [{"variations": [], "note": "tab\there"}]}', "line 1, column 45"),
        (b'{"results": []} {}', "line 1, column 17"),
    ],
)
def test_what_is_not_json_is_refused_with_line_and_column(
    write: Callable[..., Path], content: bytes, place: str
) -> None:
    line = refused(write(content))

    assert "not valid JSON" in line
    assert place in line


NOTE = b'{"results": [\n{"variations": [], "x": '


@pytest.mark.parametrize(
    ("content", "place", "hint"),
    [
        (NOTE + b"NaN}]}", "line 2, column 25", "write null"),
        (NOTE + b"-Infinity}]}", "line 2, column 26", ""),
        (NOTE + b'"caf\xe9"}]}', "line 2, column 30", ""),
        (NOTE + '"詩", "y": NaN}]}'.encode(), "line 2, column 35", "write null"),
        (NOTE + b"1e1000000000000000000}]}", "line 2, column 46", ""),
        (b"{'results': []}", "line 1, column 2", "double quotes"),
        (b"\x1f\x8b\x08\x00", "line 1, column 1", "unpack it"),
        ('{"results": []}'.encode("utf-16"), "line 1, column 1", "UTF-8"),
        (BYTE_ORDER_MARK + b"\n\n\x00", "line 3, column 1", ""),
    ],
)
def test_a_broken_file_is_refused_with_the_place_and_the_repair(
    write: Callable[..., Path], content: bytes, place: str, hint: str
) -> None:
    line = refused(write(content))

    assert f"not valid JSON at {place}" in line
    assert hint in line


@quick
@given(
    st.integers(0, 3 * CHUNK), st.integers(0, 200), st.sampled_from([b"NaN", b"\x00", b"]", b"//"])
)
def test_the_place_of_a_fault_is_its_very_byte(
    scratch: Path, length: int, lines: int, fault: bytes
) -> None:
    before = in_string(b"x" * length).removesuffix(b"}]}") + b"\n" * lines + b', "y": '
    path = scratch / "broken.json"
    path.write_bytes(before + fault + b'1, "z": "' + b"y" * length + b'"}]}')

    last = before.rpartition(b"\n")[2]
    # The parser knows of a comment at its second slash.
    columns = {len(last) + 1, len(last) + len(fault)}
    line = refused(path)
    assert any(f"at line {lines + 1}, column {column}:" in line for column in columns)


def test_the_place_of_a_fault_far_into_a_file_is_named_as_nearly_as_is_known(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "LOCATABLE", CHUNK)
    path = write(b'{"results": [' + b"\n" * 3 * CHUNK + b"x]}")

    assert f"soon after line {3 * CHUNK - 12}, column 1" in refused(path)


def test_json_lines_under_the_name_of_json_are_to_be_renamed(
    write: Callable[..., Path],
) -> None:
    line = refused(write(json_lines(QUESTION, BROKEN)))

    assert "line 2" in line
    assert "*.jsonl" in line


def test_a_single_json_line_under_the_name_of_json_is_to_be_renamed(
    write: Callable[..., Path],
) -> None:
    assert "*.jsonl" in refused(write(json_lines(QUESTION)))


@pytest.mark.parametrize(
    "content",
    [{}, {"result": []}, {"results": {}}, {"results": None}, {"results": "x"}, [QUESTION], 3, None],
)
def test_a_file_without_a_list_of_results_is_refused(
    write: Callable[..., Path], content: Any
) -> None:
    line = refused(write(content))

    assert '"results"' in line


def test_results_in_a_deeper_level_are_not_taken_for_the_results(
    write: Callable[..., Path],
) -> None:
    assert '"results"' in refused(write({"data": {"results": [QUESTION]}}))


def test_results_given_twice_are_refused(write: Callable[..., Path]) -> None:
    assert "twice" in refused(write(b'{"results": [], "a": 1, "results": []}'))


def test_metadata_given_twice_is_refused(write: Callable[..., Path]) -> None:
    assert "twice" in refused(write(b'{"metadata": 3, "results": [], "metadata": {}}'))


def test_a_field_that_the_parser_takes_for_a_question_is_refused(
    write: Callable[..., Path],
) -> None:
    assert '"results.item"' in refused(write({"results.item": QUESTION, "results": []}))
    deeper = {"": {"results": [QUESTION], "results.item": 1}, "a": {"results.item": QUESTION}}
    assert scan_input(write({**deeper, "results": []})).questions == 0


@pytest.mark.parametrize("place", ["metadata", "after", "results[1]"])
def test_deep_nesting_is_named_by_its_place(write: Callable[..., Path], place: str) -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    content = {"results": [QUESTION, {"x": {}, "variations": []}], "after": 1, "metadata": {}}
    content.update({"results": [QUESTION, {"x": deep}]} if "[" in place else {place: {"x": deep}})

    assert place in refused(write(content))


def test_very_many_top_level_fields_are_read(write: Callable[..., Path]) -> None:
    content = {f"k{number}": number for number in range(50_000)}

    assert len(scan_input(write({**content, "results": []})).top_level) == 50_001


@pytest.mark.parametrize("metadata", [None, [], "text", 3])
def test_metadata_that_is_no_object_is_refused(write: Callable[..., Path], metadata: Any) -> None:
    assert "metadata" in refused(write({"metadata": metadata, "results": []}))


@pytest.mark.parametrize(
    ("element", "place"),
    [
        (3, "results[1]"),
        (None, "results[1]"),
        ([QUESTION], "results[1]"),
        ({"question_id": "q"}, "results[1].variations"),
        ({"variations": {}}, "results[1].variations"),
        ({"variations": [BASE, 1]}, "results[1].variations[1]"),
        ({"variations": [BASE, {"sycophancy_flag": "maybe"}]}, "variations[1].sycophancy_flag"),
    ],
)
@pytest.mark.parametrize("name", ["input.json", "input.jsonl"])
def test_what_is_no_question_is_refused_with_file_and_place(
    write: Callable[..., Path], element: Any, place: str, name: str
) -> None:
    elements = [QUESTION, element]
    path = write(json_lines(*elements) if name.endswith("l") else {"results": elements}, name)

    assert place in refused(path)
    with pytest.raises(InputError) as caught:
        list(pairs(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        b"{x",
        b'{"variations": [',
        b"text",
        b'{"variations": NaN}',
        b'{"variations": [], "a": "\xff"}',
        b'{"variations": [], "a": "\xed\xa0\x80"}',
        BYTE_ORDER_MARK + b'{"variations": []}',
        b"\x00",
    ],
)
def test_a_broken_line_is_named_by_its_number(write: Callable[..., Path], line: bytes) -> None:
    path = write(json_lines(QUESTION) + b"\n" + line + b"\n" + json_lines(BROKEN), "input.jsonl")

    assert "line 3" in refused(path)


@pytest.mark.parametrize("gap", [b"", b" ", b" " * CHUNK], ids=["none", "blank", "chunk"])
def test_two_questions_on_one_line_are_refused_not_halved(
    write: Callable[..., Path], gap: bytes
) -> None:
    """As happens when files are concatenated whose last line has no newline."""
    two = json.dumps(QUESTION).encode() + gap + json.dumps(BROKEN).encode()

    assert "line 2" in refused(write(json_lines(QUESTION) + two + b"\n", "input.jsonl"))


@pytest.mark.parametrize(
    "literal", [b"NaN", b"Infinity", b"-Infinity", b"nan", b"1.", b".5", b"01"]
)
@pytest.mark.parametrize("name", ["input.json", "input.jsonl"])
def test_numbers_that_json_does_not_know_are_refused(
    write: Callable[..., Path], literal: bytes, name: str
) -> None:
    question = b'{"variations": [], "score": ' + literal + b"}"
    content = question if name.endswith("l") else b'{"results": [' + question + b"]}"

    assert "not valid JSON" in refused(write(content, name))


@pytest.mark.parametrize("place", ["top level", "question"])
@pytest.mark.parametrize(
    "number",
    [b"1e1000000000000000000", b"-1e99999999999999999999999", b"1e-9999999999999999999999"],
)
def test_an_exponent_that_no_number_holds_is_refused(
    write: Callable[..., Path], number: bytes, place: str
) -> None:
    contents = {
        "top level": b'{"x": ' + number + b', "results": []}',
        "question": b'{"results": [{"variations": [], "x": ' + number + b"}]}",
    }

    refused(write(contents[place]))


@pytest.mark.parametrize(
    "bad", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe4\xbd", b"caf\xe9"]
)
def test_invalid_utf8_is_refused(write: Callable[..., Path], bad: bytes) -> None:
    refused(write(in_string(bad)))


def test_utf16_is_refused(write: Callable[..., Path]) -> None:
    refused(write(json.dumps({"results": []}).encode("utf-16")))


@pytest.mark.parametrize("name", ["input.json", "input.jsonl"])
def test_nesting_that_cannot_be_written_back_is_refused(
    write: Callable[..., Path], name: str
) -> None:
    deep = b'{"variations": [], "x": ' + b"[" * 300 + b"]" * 300 + b"}"

    assert "deep" in refused(
        write(deep if name.endswith("l") else b'{"results": [' + deep + b"]}", name)
    )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "none.json")


def test_a_folder_is_named(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path)


def test_a_path_below_a_regular_file_is_named(write: Callable[..., Path]) -> None:
    refused(write({"results": []}) / "input.json")


def test_a_path_that_no_file_can_have_is_named(tmp_path: Path) -> None:
    refused(tmp_path / ("x" * 5000))


# --- round trip


def exact(text: str | bytes) -> str:
    """Return a JSON text as Python text in which order, type and every digit show."""
    return repr(json.loads(text, parse_float=Decimal))


@quick
@given(st.lists(json_texts, max_size=4))
@example(["1" * 4000])
def test_questions_are_what_json_reads_with_every_digit(scratch: Path, elements: list[str]) -> None:
    text = '{"results": [' + ",\n".join(elements) + "]}"
    path = scratch / "round_trip.json"
    path.write_text(text, encoding="utf-8")

    assert repr(list(questions(path))) == exact("[" + ",".join(elements) + "]")


@pytest.mark.parametrize("name", ["long.json", "long.jsonl"])
def test_an_integer_of_more_digits_than_python_likes_is_exact(
    write: Callable[..., Path], name: str
) -> None:
    """In a process of its own: at Python's limit, ijson's C code can crash."""
    question = b'{"variations": [], "n": ' + b"7" * 5000 + b"}"
    path = write(question if name.endswith("l") else b'{"results": [' + question + b"]}", name)
    code = (
        "import sys, pathlib; from atp.dataset import input_scan, reader, results; "
        "path = pathlib.Path(sys.argv[1]); input_scan.scan_input(path); "
        "print(results.to_json(next(reader.questions(path))['n']).decode())"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (0, "7" * 5000 + "\n")


@quick
@given(st.lists(json_texts, max_size=4))
def test_lines_are_what_json_reads_with_every_digit(scratch: Path, elements: list[str]) -> None:
    path = scratch / "round_trip.jsonl"
    path.write_text("\n".join(elements), encoding="utf-8")

    assert repr(list(questions(path))) == exact("[" + ",".join(elements) + "]")


@quick
@given(st.dictionaries(strings.filter(lambda key: key not in {"results", "metadata"}), json_texts))
def test_the_top_level_is_what_json_reads_with_every_digit(
    scratch: Path, fields: dict[str, str]
) -> None:
    members = [f"{json.dumps(key)}: {value}" for key, value in fields.items()]
    members.insert(len(members) // 2, '"results": []')
    text = "{" + ", ".join(members) + "}"
    path = scratch / "top_level.json"
    path.write_text(text, encoding="utf-8")

    expected = [
        (key, None if key == "results" else value)
        for key, value in json.loads(text, parse_float=Decimal).items()
    ]
    assert repr(list(scan_input(path).top_level.items())) == repr(expected)


@quick
@given(st.binary(max_size=80), st.sampled_from(["fuzz.json", "fuzz.jsonl"]))
@example(b'{"results": [1e999999999999999999999]}', "fuzz.json")
def test_any_bytes_are_read_or_refused_in_one_line(scratch: Path, data: bytes, name: str) -> None:
    path = scratch / name
    path.write_bytes(data)

    try:
        found = scan_input(path)
    except InputError as error:
        line = str(error)
    else:
        assert found.sha256 == hashlib.sha256(data).hexdigest()
        return
    assert str(path) in line
    assert len(line.splitlines()) == 1


def test_a_file_that_is_no_object_is_refused_at_its_first_byte(
    write: Callable[..., Path],
) -> None:
    path = write(b"[" * 200_000)

    tracemalloc.start()
    try:
        assert 'has no "results" list' in refused(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 1e8  # the paths of the levels would take 60 GB
