"""One pass over the whole input before anything is computed: its shape, its pairs, its hash."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ijson.backends import yajl2_c

from atp.dataset.envelope import MAX_DEPTH, Envelope, check_depth_of
from atp.dataset.keys import KEEP_ONE, LONGEST_KEY, once
from atp.dataset.pairs import BrokenPair, Problem, outcomes_of
from atp.dataset.reader import PARSER_ERRORS, broken, broken_line, parse_line
from atp.dataset.source import (
    BYTE_ORDER_MARK,
    CHUNK,
    CheckedBytes,
    UnreadableError,
    is_lines,
    opened,
    split_lines,
)
from atp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from atp.dataset.pairs import Pair

INDENTED = re.compile(rb'"results"\s*:\s*\[\s*\{\s*?\n')
"""The first question starts a new line after its brace."""


@dataclass(frozen=True)
class InputScan:
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


def scan_input(
    path: Path,
    tell: Callable[[Problem], None] | None = None,
    use: Callable[[Pair | BrokenPair], None] | None = None,
) -> InputScan:
    """Read the whole input once: check its shape, count its pairs, hash its bytes.

    Args:
        path: of the input.
        tell: told of every problem; the reading goes on as far as it can. By default the first
            problem for which a run refuses the file is raised.
        use: takes every pair, in input order.

    Raises:
        InputError: the file cannot be read; without `tell`, too, when it is not JSON, or not shaped
            as the README says.
    """
    began = time.monotonic()
    found = _Questions(tell or partial(_refuse, path), use or _ignore)
    with opened(path) as file:
        status = path.stat()
        start = file.tell()
        indented = INDENTED.search(file.read(CHUNK)) is not None
        file.seek(start)
        hashed = CheckedBytes(file, path, found.fault)
        if start:
            hashed.digest.update(BYTE_ORDER_MARK)
        envelope: tuple[tuple[str, Any], ...] = (("results", None),)
        try:
            if is_lines(path):
                _read_lines(path, hashed, found)
            else:
                envelope = _read_json(path, hashed, found)
        except UnreadableError as error:
            found.fault(error)
        hashed.hash_rest()
    return InputScan(
        path,
        hashed.digest.hexdigest(),
        status.st_size,
        status.st_mtime_ns,
        indented,
        envelope,
        found.count,
        found.pairs,
        found.broken_pairs,
        time.monotonic() - began,
    )


def _refuse(path: Path, problem: Problem) -> None:
    """Raise the first problem for which a run refuses the file."""
    if problem.refused:
        named = problem.question is None  # a fault of the file names it
        raise InputError(problem.message if named else f"{path}: {problem.message}", problem.hint)


def _ignore(_: Pair | BrokenPair) -> None:
    """Do nothing with a pair."""


class _Questions:
    """Counts questions and their pairs, one question at a time, and tells what is wrong with them.

    Args:
        tell: told of every problem.
        use: takes every pair.
    """

    def __init__(
        self, tell: Callable[[Problem], None], use: Callable[[Pair | BrokenPair], None]
    ) -> None:
        self.tell, self.use = tell, use
        self.count = self.pairs = self.broken_pairs = 0
        self.line: int | None = None
        """Of JSON Lines, where the next question stands."""

    def fault(self, error: InputError, line: int | None = None) -> None:
        """Tell a fault of the file."""
        self.tell(Problem(error.message, error.hint, refused=True, line=line))

    def add(self, question: Any) -> None:  # noqa: ANN401  (user's JSON)
        """Take the next question."""
        index = self.count
        self.count += 1
        told: set[Problem] = set()  # a base answer or its lack is the fault of several pairs
        for found in outcomes_of(question, index):
            if isinstance(found, Problem):
                self.tell(replace(found, line=self.line))
                continue
            self.pairs += 1
            if isinstance(found, BrokenPair):
                self.broken_pairs += 1
                for problem in found.problems:
                    if problem not in told:
                        self.tell(replace(problem, line=self.line))
                        told.add(problem)
            self.use(found)

    def key_twice(self, key: str) -> None:
        """Tell of a key that stands twice in an object of the next question."""
        line = "" if self.line is None else f"line {self.line}, "
        msg = f"{line}results[{self.count}] holds {key[:LONGEST_KEY]!r} twice in one object."
        problem = Problem(msg, KEEP_ONE, refused=True, question=self.count, field=key)
        self.tell(replace(problem, line=self.line))


def _read_lines(path: Path, file: CheckedBytes, found: _Questions) -> None:
    twice: list[str] = []
    map_type = once(twice)
    for number, line in enumerate(split_lines(file), start=1):
        if not line.strip():
            continue
        found.line = number
        twice.clear()
        try:
            _check_line(path, number, line)
            question = parse_line(path, number, line, map_type)
        except InputError as error:
            found.fault(error, number)
            continue
        for key in dict.fromkeys(twice):
            found.key_twice(key)
        found.add(question)


def _read_json(path: Path, file: CheckedBytes, found: _Questions) -> tuple[tuple[str, Any], ...]:
    """Return the envelope; hand the questions on."""
    envelope = Envelope(path, file, found.fault)
    for question in _questions(path, envelope, found):
        while envelope.twice and envelope.twice[0][0] == found.count:
            found.key_twice(envelope.twice.popleft()[1])
        found.add(question)
    return tuple(envelope.fields)


def _questions(path: Path, envelope: Envelope, found: _Questions) -> Iterator[Any]:
    """Yield the questions up to where the file can be read, and tell what is wrong there."""
    try:
        yield from yajl2_c.items(envelope, "results.item", buf_size=CHUNK)
        envelope.finish()
    except PARSER_ERRORS as error:
        found.fault(broken(path, error, found.count))


def check_unchanged(found: InputScan) -> None:
    """Raise InputError when the input is no longer the file that was surveyed."""
    with opened(found.path) as file:
        status = os.fstat(file.fileno())
    if (status.st_size, status.st_mtime_ns) != (found.size, found.modified_ns):
        msg = f"{found.path} was changed during the run."
        raise InputError(msg, "Leave it alone until the run is done; start the same command anew.")


def _check_line(path: Path, number: int, line: bytes) -> None:
    """Refuse a line of JSON Lines that is nested too deeply: `items` would need memory for it."""
    if line.count(b"[") + line.count(b"{") <= MAX_DEPTH:
        return
    try:
        check_depth_of(yajl2_c.basic_parse(line), f"{path}, line {number},")
    except PARSER_ERRORS as error:
        raise broken_line(path, number, error) from error
