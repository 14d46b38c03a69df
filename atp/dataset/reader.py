"""The questions of a JSON or JSON Lines file of any size, one after the other.

ijson (C backend) parses; one question is in memory at a time. Numbers keep their exact digits
(int and Decimal), so that unknown fields can be written back unchanged.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import ijson
from ijson.backends import yajl2_c

from atp.dataset.pairs import pairs_of
from atp.dataset.source import CHUNK, GrowingPieces, is_lines, opened, split_lines
from atp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from atp.dataset.pairs import BrokenPair, Pair

PARSER_ERRORS = (ijson.JSONError, StopIteration, ValueError, ArithmeticError, RecursionError)
LOCATABLE = 1 << 28  # bytes in which the exact place of a fault is found, by several passes
LARGE = 1 << 24  # bytes of a piece that is known to be valid
COMPRESSED = ("\x1f\x8b", "PK\x03\x04", "BZh", "\xfd7zXZ", "(\xb5/\xfd")
HINTS = (  # texts at which the parser stops, and how to repair a file that holds them there
    (COMPRESSED, "It is a compressed file: unpack it first."),
    (("\xff\xfe", "\xfe\xff"), "Save it as UTF-8."),
    (("'",), "JSON has its texts in double quotes."),
    (("NaN", "Infinity", "-Infinity", "nan"), "JSON has no such number: write null."),
)

# ijson's C code crashes at Python's limit of 4,300 digits, and integers must come out unchanged.
sys.set_int_max_str_digits(0)


def questions(path: Path) -> Iterator[Any]:
    """Yield the elements of `results` (JSON) or the lines (JSON Lines), or raise an InputError."""
    with opened(path) as file:
        if is_lines(path):
            for number, line in enumerate(split_lines(file), start=1):
                if line.strip():
                    yield parse_line(path, number, line)
            return
        count = 0
        try:
            for question in yajl2_c.items(GrowingPieces(file), "results.item", buf_size=CHUNK):
                yield question
                count += 1
        except PARSER_ERRORS as error:
            raise broken(path, error, count) from error


def parse_line(path: Path, number: int, line: bytes, map_type: type | None = None) -> Any:  # noqa: ANN401
    """Return the one value on a line of JSON Lines, with objects of `map_type` (default: dict)."""
    try:
        (question,) = yajl2_c.items(line, "", buf_size=len(line), map_type=map_type)
    except PARSER_ERRORS as error:
        msg = f"{path}, line {number}, is not valid JSON: {_reason(error)}."
        raise InputError(msg, "Repair that line.") from error
    return question


def pairs(path: Path, limit: int | None = None) -> Iterator[Pair | BrokenPair]:
    """Yield the first `limit` pairs (all by default) of a file, in input order."""
    count = 0
    for index, question in enumerate(questions(path)):
        for pair in pairs_of(path, question, index):
            if count == limit:
                return
            yield pair
            count += 1


def _reason(error: Exception) -> str:
    """Return the message of a parser's error, without its picture of the place."""
    if isinstance(error, ArithmeticError):
        return "a number's exponent is beyond all numbers"
    text = (str(error).removeprefix("b'").splitlines() or ["it holds no value"])[0]
    if "premature EOF" in text or "Incomplete" in text:
        return "it ends too early; the file is truncated"
    return text.split("\\n")[0].strip().rstrip(".")


def broken(path: Path, error: Exception, after: int | None = None) -> InputError:
    """Return an InputError that says where the JSON breaks, `after` how many questions."""
    reason = _reason(error)
    offset, exact = _accepted(path)
    line, column, there = _place(path, offset)
    hint = next((hint for starts, hint in HINTS if there.startswith(starts)), "")
    if "trailing garbage" in reason:
        hint = "If it holds one question a line, name it *.jsonl."
    place = f"{'at' if exact else 'soon after'} line {line}, column {column}"
    if after:
        place += f", after results[{after - 1}]"
    msg = f"{path} is not valid JSON {place}: {reason}."
    return InputError(msg, hint or "Repair the file, or write it anew.")


class _Discard:
    def send(self, event: object) -> None:
        """Keep no event of the parser."""


def _accepted(path: Path) -> tuple[int, bool]:
    """Return how many bytes of a file that is not JSON the parser takes; say if to the byte.

    Pieces get smaller around the fault. Single bytes from the start would take hours: the parser
    reads an unfinished text again with every further piece.
    """
    known, size = _taken(path, 0, None)
    while size > 1 and known <= LOCATABLE:
        known, size = _taken(path, known, max(1, size // 16))
    return known, size <= 1


def _taken(path: Path, known: int, size: int | None) -> tuple[int, int]:
    """Return how many bytes the parser takes, and the size of the piece in which it fails.

    The first `known` bytes are valid for sure. Pieces of `size` follow; None is for the quickest.
    """
    parser = yajl2_c.basic_parse_coro(_Discard())
    taken = 0
    with opened(path) as file:
        growing = GrowingPieces(file)
        while True:
            if taken < known:
                data = file.read(min(LARGE, known - taken))
            else:
                data = growing.read(CHUNK) if size is None else file.read(size)
            if not data:
                return taken, 0
            try:
                parser.send(data)
            except PARSER_ERRORS:
                return taken, len(data)
            taken += len(data)


def _place(path: Path, offset: int) -> tuple[int, int, str]:
    """Return line and column of a byte, both from 1, and the text there."""
    line = column = 1
    with opened(path) as file:
        while offset and (data := file.read(min(CHUNK, offset))):
            offset -= len(data)
            line += data.count(b"\n")
            *ended, last = data.rsplit(b"\n", 1)
            # The second and later bytes of a UTF-8 character take no column.
            length = len(last.translate(None, bytes(range(0x80, 0xC0))))
            column = length + (1 if ended else column)
        there = file.read(9).decode("latin-1")
    return line, column, there
