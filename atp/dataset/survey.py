"""One pass over the whole input before anything is computed: its shape, its pairs, its hash."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ijson
from ijson.backends import yajl2_c

from atp.dataset.pairs import BrokenPair
from atp.dataset.reader import PARSER_ERRORS, broken, broken_line, named_pairs_of, questions
from atp.dataset.source import (
    BYTE_ORDER_MARK,
    CHUNK,
    CheckedBytes,
    is_lines,
    opened,
    split_lines,
)
from atp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INDENTED = re.compile(rb'"results"\s*:\s*\[\s*\{\s*?\n')
"""The first question starts a new line after its brace."""

MAX_DEPTH = 200
"""Levels of nesting; orjson writes 254."""
STEPS = {"start_map": 1, "start_array": 1, "end_map": -1, "end_array": -1}


@dataclass(frozen=True)
class Survey:
    """What one pass over the whole input found."""

    path: Path
    sha256: str
    size: int
    modified_ns: int
    indented: bool
    """Whether its questions are laid out over lines; those of the result are laid out likewise."""
    envelope: tuple[tuple[str, Any], ...]
    """The top-level fields in order; `results` stands there with None as its value."""
    questions: int = 0
    pairs: int = 0
    broken_pairs: int = 0
    seconds: float = 0.0
    """What the pass took."""


def survey(path: Path) -> Survey:
    """Read the whole input once: check its shape, count its pairs, hash its bytes.

    Raises:
        InputError: the file cannot be read, is not JSON, or is not shaped as the README says.
    """
    began = time.monotonic()
    with opened(path) as file:
        status = path.stat()
        start = file.tell()
        indented = INDENTED.search(file.read(CHUNK)) is not None
        file.seek(start)
        hashed = CheckedBytes(file, path)
        if start:
            hashed.digest.update(BYTE_ORDER_MARK)
        try:
            if is_lines(path):
                envelope: tuple[tuple[str, Any], ...] = (("results", None),)
                for number, line in enumerate(split_lines(hashed), start=1):
                    _check_line(path, number, line)
            else:
                envelope = tuple(_envelope(path, hashed))
        except PARSER_ERRORS as error:
            raise broken(path, error) from error
    metadata = dict(envelope).get("metadata", {})
    if not isinstance(metadata, dict):
        msg = f"{path}: metadata is not an object."
        raise InputError(msg, "atp adds its own entry there; make it an object or leave it out.")

    count = pairs = unpaired = 0
    for index, question in enumerate(questions(path)):
        count += 1
        for pair in named_pairs_of(path, question, index):
            pairs += 1
            unpaired += isinstance(pair, BrokenPair)
    return Survey(
        path,
        hashed.digest.hexdigest(),
        status.st_size,
        status.st_mtime_ns,
        indented,
        envelope,
        count,
        pairs,
        unpaired,
        time.monotonic() - began,
    )


def check_unchanged(found: Survey) -> None:
    """Raise InputError when the input is no longer the file that was surveyed."""
    with opened(found.path) as file:
        status = os.fstat(file.fileno())
    if (status.st_size, status.st_mtime_ns) != (found.size, found.modified_ns):
        msg = f"{found.path} was changed during the run."
        raise InputError(msg, "Leave it alone until the run is done; start the same command anew.")


def _envelope(path: Path, file: CheckedBytes) -> Iterator[tuple[str, Any]]:
    """Yield the top-level fields, without the content of `results`."""
    events = yajl2_c.basic_parse(file, buf_size=CHUNK)
    seen: set[str] = set()
    if next(events)[0] == "start_map":
        for event, key in events:
            if event == "end_map":
                break
            if key in seen:
                msg = f'{path} holds "{key}" twice at its top level.'
                raise InputError(msg, "Keep one of them.")
            seen.add(key)
            if key == "results":
                _skip_list(path, events)
                yield key, None
            else:
                yield key, _value(path, events)
    for _ in events:  # reads to the end of the file: trailing garbage is an error, too
        pass
    if "results" not in seen:
        raise _wrong_shape(path)


def _value(path: Path, events: Iterator[tuple[str, Any]]) -> Any:  # noqa: ANN401
    """Read one top-level value."""
    builder = ijson.ObjectBuilder()
    depth = 0
    for event, value in events:
        depth += STEPS.get(event, 0)
        _check_depth(depth, str(path))
        builder.event(event, value)
        if depth == 0:
            break
    return builder.value


def _skip_list(path: Path, events: Iterator[tuple[str, Any]]) -> None:
    """Read over `results`, which must be a list; gigabytes pass here, so it does little."""
    depth = 1
    if next(events)[0] != "start_array":
        raise _wrong_shape(path)
    for event, _ in events:
        if event in STEPS:
            depth += STEPS[event]
            _check_depth(depth, str(path))
            if depth == 0:
                return


def _check_depth(depth: int, place: str) -> None:
    if depth > MAX_DEPTH:
        msg = f"{place} is nested more than {MAX_DEPTH} levels deep."
        raise InputError(msg, "What is nested that deeply cannot be written; flatten it.")


def _wrong_shape(path: Path) -> InputError:
    return InputError(
        f'{path} has no "results" list at its top level.',
        'Write {"results": [{"variations": [...]}]}, or one question a line in a *.jsonl file.',
    )


def _check_line(path: Path, number: int, line: bytes) -> None:
    """Refuse a line of JSON Lines that is nested too deeply: `items` would need memory for it."""
    if line.count(b"[") + line.count(b"{") <= MAX_DEPTH:
        return
    try:
        depth = 0
        for event, _ in yajl2_c.basic_parse(line):
            depth += STEPS.get(event, 0)
            _check_depth(depth, f"{path}, line {number},")
    except PARSER_ERRORS as error:
        raise broken_line(path, number, error) from error
