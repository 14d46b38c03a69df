"""A stream of questions out of a JSON or JSON Lines file of any size.

ijson (C backend) parses; one question is in memory at a time. Numbers keep their exact digits
(int and Decimal), so that unknown fields can be written back unchanged.
"""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING, Any

import ijson
from ijson.backends import yajl2_c

from atp.dataset.pairs import BrokenPair, Pair, pairs_of
from atp.dataset.source import CHUNK, Growing, is_lines, opened, split_lines
from atp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARSER_ERRORS = (ijson.JSONError, StopIteration, ValueError, ArithmeticError, RecursionError)

LOCATABLE = 1 << 28
"""Up to this byte the place of a fault is sought exactly, which takes several passes to it."""

LARGE = 1 << 24
"""Bytes of a piece that is known to be right."""

COMPRESSED = ("\x1f\x8b", "PK\x03\x04", "BZh", "\xfd7zXZ", "(\xb5/\xfd")
HINTS = (
    (COMPRESSED, "It is a compressed file: unpack it first."),
    (("\xff\xfe", "\xfe\xff"), "Save it as UTF-8."),
    (("'",), "JSON has its texts in double quotes."),
    (("NaN", "Infinity", "-Infinity", "nan"), "JSON has no such number: write null."),
)
"""What a file that is no JSON begins with, where the parser gives up, and what to do about it."""

# ijson's C code crashes at Python's limit of 4,300 digits, and integers must come out unchanged.
sys.set_int_max_str_digits(0)


def questions(path: Path) -> Iterator[Any]:
    """Yield the elements of `results` (JSON) or the lines (JSON Lines), in order.

    Raises:
        InputError: the file cannot be read or is not valid JSON; says where.
    """
    with opened(path) as file:
        if is_lines(path):
            yield from _lines(path, file)
            return
        count = 0
        try:
            for question in yajl2_c.items(Growing(file), "results.item", buf_size=CHUNK):
                yield question
                count += 1
        except PARSER_ERRORS as error:
            raise broken(path, error, count) from error


def _lines(path: Path, file: IO[bytes]) -> Iterator[Any]:
    for number, line in enumerate(split_lines(file), start=1):
        if not line.strip():
            continue
        yield parse_line(path, number, line)


def parse_line(path: Path, number: int, line: bytes, map_type: type | None = None) -> Any:  # noqa: ANN401
    """Return the value on a line of JSON Lines.

    Args:
        path: of the file, for messages.
        number: of the line, from 1.
        line: its bytes.
        map_type: what to make objects of; dict by default.

    Raises:
        InputError: it is not one value; a second one on the line is an error, too.
    """
    try:
        (question,) = yajl2_c.items(line, "", buf_size=len(line), map_type=map_type)
    except PARSER_ERRORS as error:
        raise broken_line(path, number, error) from error
    return question


def named_pairs_of(path: Path, question: Any, index: int) -> Iterator[Pair | BrokenPair]:  # noqa: ANN401
    """Yield the pairs of a question as `pairs_of` does; its errors name the file, too."""
    try:
        yield from pairs_of(question, index)
    except InputError as error:
        msg = f"{path}: {error.message}"
        raise InputError(msg, error.hint) from error


def pairs(path: Path, limit: int | None = None) -> Iterator[Pair | BrokenPair]:
    """Yield the first `limit` pairs (all by default) of a file, in input order."""
    found = 0
    for index, question in enumerate(questions(path)):
        for pair in named_pairs_of(path, question, index):
            if found == limit:
                return
            yield pair
            found += 1


def _reason(error: Exception) -> str:
    """Return what a parser's error says, without its picture of the place."""
    if isinstance(error, ArithmeticError):
        return "a number's exponent is beyond all numbers"
    text = (str(error).removeprefix("b'").splitlines() or ["it holds no value"])[0]
    if "premature EOF" in text or "Incomplete" in text:
        return "it ends too early; the file is truncated"
    return text.split("\\n")[0].strip().rstrip(".")


def broken(path: Path, error: Exception, after: int | None = None) -> InputError:
    """Return an InputError that says where the JSON breaks.

    Args:
        path: the file.
        error: what the parser says.
        after: how many questions it gave before.
    """
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


class _Nothing:
    """Takes what the parser finds, and keeps nothing of it."""

    def send(self, event: object) -> None:
        """Forget an event."""


def _accepted(path: Path) -> tuple[int, bool]:
    """Return how many bytes of a file that is not JSON the parser takes; say if to the byte.

    Pieces get smaller around the fault. Single bytes from the start would take hours: the parser
    looks at a text anew each time that more of it comes.
    """
    known, size = _taken(path, 0, None)
    while size > 1 and known <= LOCATABLE:
        known, size = _taken(path, known, max(1, size // 16))
    return known, size <= 1


def _taken(path: Path, known: int, size: int | None) -> tuple[int, int]:
    """Return how many bytes the parser takes, and the size of the piece in which it fails.

    Args:
        path: the file.
        known: bytes that the parser takes for sure.
        size: of the pieces after these; None for what is quickest.
    """
    parser = yajl2_c.basic_parse_coro(_Nothing())
    taken = 0
    with opened(path) as file:
        growing = Growing(file)
        while data := (
            file.read(min(LARGE, known - taken))
            if taken < known
            else growing.read(CHUNK)
            if size is None
            else file.read(size)
        ):
            try:
                parser.send(data)
            except PARSER_ERRORS:
                return taken, len(data)
            taken += len(data)
    return taken, 0


def _place(path: Path, offset: int) -> tuple[int, int, str]:
    """Return line and column of a byte, both from 1, and what stands there."""
    line = column = 1
    with opened(path) as file:
        while offset and (data := file.read(min(CHUNK, offset))):
            offset -= len(data)
            line += data.count(b"\n")
            *ended, last = data.rsplit(b"\n", 1)
            # Bytes that go on with a character are none of their own.
            length = len(last.translate(None, bytes(range(0x80, 0xC0))))
            column = length + (1 if ended else column)
        there = file.read(9).decode("latin-1")
    return line, column, there


def broken_line(path: Path, number: int, error: Exception) -> InputError:
    """Return an InputError that says which line of JSON Lines breaks."""
    reason = _reason(error)
    return InputError(f"{path}, line {number}, is not valid JSON: {reason}.", "Repair that line.")
