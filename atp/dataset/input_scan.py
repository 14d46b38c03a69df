"""One pass over the whole input before anything is computed: its shape, its pairs, its hash."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ijson.backends import yajl2_c

from atp.dataset.pairs import BrokenPair, Problem, pairs_and_problems
from atp.dataset.reader import PARSER_ERRORS, broken, parse_line
from atp.dataset.source import CHUNK, CheckedFile, UnreadableError, is_lines, opened, split_lines
from atp.dataset.top_level import TopLevel, check_line_depth, noting_repeats, repeated_key
from atp.errors import InputError
from atp.runtime.live import phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from atp.dataset.pairs import Pair

    OnProblem = Callable[[Problem], None]
    OnPair = Callable[[Pair | BrokenPair], None]

INDENTED = re.compile(rb'"results"\s*:\s*\[\s*\{\s*?\n')  # a line ends after the first brace


@dataclass
class InputScan:
    """The facts of an input that one pass over it gives."""

    path: Path
    size: int = 0
    modified_ns: int = 0
    sha256: str = ""
    indented: bool = False  # its questions are laid out over lines; the result's will be, too
    # The top-level fields in order; the value of `results` is None here.
    top_level: dict[str, Any] = field(default_factory=lambda: {"results": None})
    questions: int = 0
    pairs: int = 0
    broken_pairs: int = 0
    seconds: float = 0.0  # the time of the pass


def scan_input(
    path: Path, on_problem: OnProblem | None = None, on_pair: OnPair | None = None
) -> InputScan:
    """Read the whole input once with an `InputReader`, and return its scan."""
    reader = InputReader(path, on_problem, on_pair)
    with phase(f"reading {path.name}", reader.scan.size, unit="bytes") as line:
        for _ in reader:
            line.total = reader.scan.size
            line.advance(reader.bytes_read - line.done)
    return reader.scan


class InputReader:
    """Yields the questions of an input, and checks, counts and hashes them on the way.

    `on_pair` takes every pair, in input order. `on_problem` takes every problem, and the reading
    continues as far as it can; without it, the first problem for which a run refuses the file is
    raised as an InputError.
    """

    def __init__(
        self, path: Path, on_problem: OnProblem | None = None, on_pair: OnPair | None = None
    ) -> None:
        self.path, self.on_problem, self.on_pair = path, on_problem or self._refuse, on_pair
        self.scan = InputScan(path)  # complete once the last question has been taken
        self._line: int | None = None  # of JSON Lines, where the next question stands
        self._file: CheckedFile | None = None

    @property
    def bytes_read(self) -> int:
        """How far it has come; `scan.size` is the end."""
        return self._file.offset if self._file else 0

    def __iter__(self) -> Iterator[Any]:
        began = time.monotonic()
        scan = self.scan
        with opened(self.path) as file:
            status = os.fstat(file.fileno())
            scan.size, scan.modified_ns = status.st_size, status.st_mtime_ns
            start = file.tell()
            scan.indented = INDENTED.search(file.read(CHUNK)) is not None
            file.seek(start)
            self._file = checked = CheckedFile(file, self.path, self._fault)
            try:
                yield from self._lines(checked) if is_lines(self.path) else self._json(checked)
            except UnreadableError as error:
                self._fault(error)
            checked.hash_rest()
        scan.sha256 = checked.digest.hexdigest()
        scan.seconds = time.monotonic() - began

    def _json(self, file: CheckedFile) -> Iterator[Any]:
        top_level = TopLevel(self.path, file, self._fault)
        self.scan.top_level, repeated = top_level.fields, top_level.repeated_keys
        for question in self._until_broken(top_level):
            while repeated and repeated[0][0] == self.scan.questions:
                self._key_twice(repeated.popleft()[1])
            self._add(question)
            yield question

    def _until_broken(self, top_level: TopLevel) -> Iterator[Any]:
        try:
            yield from yajl2_c.items(top_level, "results.item", buf_size=CHUNK)
            top_level.finish()
        except PARSER_ERRORS as error:
            self._fault(broken(self.path, error, self.scan.questions))

    def _lines(self, file: CheckedFile) -> Iterator[Any]:
        repeated: list[str] = []
        map_type = noting_repeats(repeated)
        for number, line in enumerate(split_lines(file), start=1):
            if not line.strip():
                continue
            self._line = number
            repeated.clear()
            try:
                check_line_depth(line, f"{self.path}, line {number},")
                question = parse_line(self.path, number, line, map_type)
            except InputError as error:
                self._fault(error, line=number)
                continue
            for key in dict.fromkeys(repeated):
                self._key_twice(key)
            self._add(question)
            yield question

    def _add(self, question: Any) -> None:  # noqa: ANN401  (user's JSON)
        """Count a question and its pairs, and report its problems."""
        index = self.scan.questions
        self.scan.questions += 1
        known: set[Problem] = set()  # several pairs share the problem of their base variation
        for outcome in pairs_and_problems(question, index):
            if isinstance(outcome, Problem):
                self.on_problem(replace(outcome, line=self._line))
                continue
            self.scan.pairs += 1
            if isinstance(outcome, BrokenPair):
                self.scan.broken_pairs += 1
                for problem in outcome.problems:
                    if problem not in known:
                        self.on_problem(replace(problem, line=self._line))
                        known.add(problem)
            if self.on_pair is not None:
                self.on_pair(outcome)

    def _fault(self, error: InputError, **place: Any) -> None:  # noqa: ANN401  (of `Problem`)
        self.on_problem(Problem(error.message, error.hint, **place))

    def _key_twice(self, key: str) -> None:
        index, line = self.scan.questions, self._line
        error = repeated_key(f"{'' if line is None else f'line {line}, '}results[{index}]", key)
        self._fault(error, question=index, field=key, line=line)

    def _refuse(self, problem: Problem) -> None:
        if problem.refused:
            raise problem.error(self.path)


def check_unchanged(scan: InputScan) -> None:
    """Raise InputError when a file is no longer the one that was scanned."""
    with opened(scan.path) as file:
        status = os.fstat(file.fileno())
    if (status.st_size, status.st_mtime_ns) != (scan.size, scan.modified_ns):
        msg = f"{scan.path} was changed during the run."
        hint = "Do not change it until the run has ended; start the same command again."
        raise InputError(msg, hint)
