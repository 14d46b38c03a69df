"""A stream of questions out of a JSON or JSON Lines file of any size.

ijson (C backend) parses; one question is in memory at a time. Numbers keep their exact digits
(int and Decimal), so that unknown fields can be written back unchanged.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import ijson
from ijson.backends import yajl2_c

from atp.dataset.pairs import BrokenPair, pairs_of
from atp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK = 1 << 16
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LOCATABLE = 64 << 20
"""Up to this size a broken file is parsed once more with `json`, which knows line and column."""

ESCAPE = len(rb"\u0000")
LONE_SURROGATE = re.compile(
    rb"(?<!\\)(?:\\\\)*\\u(?:[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u)[dD][c-fC-F][0-9a-fA-F]{2})"
)
"""Half of a UTF-16 pair, escaped: no Unicode text, and the JSON library would write "?" instead."""


@dataclass(frozen=True)
class Survey:
    """What one pass over the whole input found."""

    path: Path
    sha256: str
    size: int
    modified_ns: int
    envelope: tuple[tuple[str, Any], ...]
    """The top-level fields in order; `results` stands there with None as its value."""
    questions: int = 0
    pairs: int = 0
    broken_pairs: int = 0


def is_lines(path: Path) -> bool:
    """Say whether a file is JSON Lines, by its name."""
    return path.suffix.lower() in {".jsonl", ".ndjson"}


class _Hashed:
    """A file for ijson that hashes what it reads and refuses what ijson would alter."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self.file, self.path = file, path
        self.digest = hashlib.sha256()
        self.overlap, self.offset = b"", 0

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes."""
        data = self.file.read(size)
        self.digest.update(data)
        window = self.overlap + data
        for match in LONE_SURROGATE.finditer(window):
            at = match.end() - ESCAPE
            seen_before = self.offset > 0 and at < 2 * ESCAPE
            seen_again = data and match.end() + ESCAPE > len(window)
            if not (seen_before or seen_again):
                at += self.offset - len(self.overlap)
                msg = f"{self.path} holds half of a surrogate pair at byte {at}."
                raise InputError(msg, "That is no Unicode text; write \\ufffd instead of it.")
        self.overlap = window[-4 * ESCAPE :]
        self.offset += len(data)
        return data


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open the input behind a byte order mark, or say why not."""
    try:
        with path.open("rb") as file:
            if file.read(3) != BYTE_ORDER_MARK:
                file.seek(0)
            yield file
    except IsADirectoryError as error:
        msg = f"{path} is a folder, not a file."
        raise InputError(msg, "Name the JSON or JSON Lines file in it.") from error
    except FileNotFoundError as error:
        msg = f"{path} does not exist."
        raise InputError(msg, "Check the name of the input file.") from error
    except PermissionError as error:
        msg = f"{path} cannot be read: permission denied."
        raise InputError(msg, "Give this user the right to read it.") from error


def _broken(path: Path, error: Exception, after: int | None = None) -> InputError:
    """Return an InputError that says where the JSON breaks."""
    reason = str(error).removeprefix("b'").splitlines()[0].split("\\n")[0].strip()
    if "premature EOF" in reason or "Incomplete" in reason:
        reason = "it ends too early; the file is truncated"
    place = f" after results[{after - 1}]" if after else ""
    if not is_lines(path) and path.stat().st_size <= LOCATABLE:
        try:
            json.loads(path.read_bytes().removeprefix(BYTE_ORDER_MARK))
        except json.JSONDecodeError as located:
            place = f" at line {located.lineno}, column {located.colno}"
        except (UnicodeDecodeError, RecursionError):
            place = place or ""
    hint = "Repair the file, or write it anew."
    if "trailing garbage" in reason:
        hint = "If it holds one question a line, name it *.jsonl."
    return InputError(f"{path} is not valid JSON{place}: {reason}.", hint)


def questions(path: Path) -> Iterator[Any]:
    """Yield the elements of `results` (JSON) or the lines (JSON Lines), in order.

    Raises:
        InputError: the file cannot be read or is not valid JSON; says where.
    """
    with _opened(path) as file:
        if is_lines(path):
            yield from _lines(path, file)
            return
        count = 0
        try:
            for question in yajl2_c.items(file, "results.item", buf_size=CHUNK):
                yield question
                count += 1
        except (ijson.JSONError, ValueError, RecursionError) as error:
            raise _broken(path, error, count) from error


def _lines(path: Path, file: IO[bytes] | _Hashed) -> Iterator[Any]:
    for number, line in enumerate(_split_lines(file), start=1):
        if not line.strip():
            continue
        try:
            yield next(yajl2_c.items(line, ""))
        except (ijson.JSONError, ValueError, StopIteration, RecursionError) as error:
            raise _broken_line(path, number, error) from error


def _broken_line(path: Path, number: int, error: Exception) -> InputError:
    reason = str(error).removeprefix("b'").splitlines()[0].split("\\n")[0].strip()
    return InputError(f"{path}, line {number}, is not valid JSON: {reason}.", "Repair that line.")


def _split_lines(file: IO[bytes] | _Hashed) -> Iterator[bytes]:
    rest = b""
    while data := file.read(CHUNK):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
    yield rest


def _envelope(path: Path, file: _Hashed) -> Iterator[tuple[str, Any]]:
    """Yield the top-level fields, without the content of `results`."""
    events = yajl2_c.basic_parse(file, buf_size=CHUNK)
    found = 0
    if next(events)[0] == "start_map":
        for event, key in events:
            if event == "end_map":
                break
            found += key == "results"
            yield key, _value(path, events, skip=key == "results")
    for _ in events:  # reads to the end of the file: trailing garbage is an error, too
        pass
    if not found:
        raise _wrong_shape(path)
    if found > 1:
        msg = f'{path} holds "results" twice.'
        raise InputError(msg, "Keep one of them.")


def _value(path: Path, events: Iterator[tuple[str, Any]], *, skip: bool) -> Any:  # noqa: ANN401
    """Read one top-level value; of `results`, only make sure that it is a list."""
    builder = ijson.ObjectBuilder()
    depth = 0
    for event, value in events:
        if skip and depth == 0 and event != "start_array":
            raise _wrong_shape(path)
        depth += (event in {"start_map", "start_array"}) - (event in {"end_map", "end_array"})
        if not skip:
            builder.event(event, value)
        if depth == 0:
            break
    return None if skip else builder.value


def _wrong_shape(path: Path) -> InputError:
    return InputError(
        f'{path} has no "results" list at its top level.',
        'Write {"results": [{"variations": [...]}]}, or one question a line in a *.jsonl file.',
    )


def survey(path: Path) -> Survey:
    """Read the whole input once: check its shape, count its pairs, hash its bytes.

    Raises:
        InputError: the file cannot be read, is not JSON, or is not shaped as the README says.
    """
    with _opened(path) as file:
        status = path.stat()
        hashed = _Hashed(file, path)
        if file.tell():
            hashed.digest.update(BYTE_ORDER_MARK)
        try:
            if is_lines(path):
                envelope: tuple[tuple[str, Any], ...] = (("results", None),)
                for _ in _split_lines(hashed):
                    pass
            else:
                envelope = tuple(_envelope(path, hashed))
        except (ijson.JSONError, StopIteration, ValueError, RecursionError) as error:
            raise _broken(path, error) from error
    metadata = dict(envelope).get("metadata", {})
    if not isinstance(metadata, dict):
        msg = f"{path}: metadata is not an object."
        raise InputError(msg, "atp adds its own entry there; make it an object or leave it out.")

    count = pairs = broken = 0
    for index, question in enumerate(questions(path)):
        count += 1
        for pair in pairs_of(question, index):
            pairs += 1
            broken += isinstance(pair, BrokenPair)
    return Survey(
        path,
        hashed.digest.hexdigest(),
        status.st_size,
        status.st_mtime_ns,
        envelope,
        count,
        pairs,
        broken,
    )


def pairs(path: Path, limit: int | None = None) -> Iterator[Any]:
    """Yield the first `limit` pairs (all by default) of a file, in input order."""
    found = 0
    for index, question in enumerate(questions(path)):
        for pair in pairs_of(question, index):
            if found == limit:
                return
            yield pair
            found += 1
