"""A stream of questions out of a JSON or JSON Lines file of any size.

ijson (C backend) parses; one question is in memory at a time. Numbers keep their exact digits
(int and Decimal), so that unknown fields can be written back unchanged.
"""

from __future__ import annotations

import json
import sys
from typing import IO, TYPE_CHECKING, Any

import ijson
from ijson.backends import yajl2_c

from atp.dataset.pairs import BrokenPair, Pair, pairs_of
from atp.dataset.source import BYTE_ORDER_MARK, CHUNK, is_lines, opened, split_lines
from atp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCATABLE = 64 << 20
"""Up to this size a broken file is parsed once more with `json`, which knows line and column."""

PARSER_ERRORS = (ijson.JSONError, StopIteration, ValueError, ArithmeticError, RecursionError)

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
            for question in yajl2_c.items(file, "results.item", buf_size=CHUNK):
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
        (question,) = yajl2_c.items(line, "", map_type=map_type)
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
    """Return an InputError that says where the JSON breaks."""
    reason = _reason(error)
    place = f" after results[{after - 1}]" if after else ""
    if not is_lines(path) and path.stat().st_size <= LOCATABLE:
        try:
            json.loads(path.read_bytes().removeprefix(BYTE_ORDER_MARK))
        except json.JSONDecodeError as located:
            place = f" at line {located.lineno}, column {located.colno}"
        except (ValueError, RecursionError):
            pass
    hint = "Repair the file, or write it anew."
    if "trailing garbage" in reason:
        hint = "If it holds one question a line, name it *.jsonl."
    return InputError(f"{path} is not valid JSON{place}: {reason}.", hint)


def broken_line(path: Path, number: int, error: Exception) -> InputError:
    """Return an InputError that says which line of JSON Lines breaks."""
    reason = _reason(error)
    return InputError(f"{path}, line {number}, is not valid JSON: {reason}.", "Repair that line.")
