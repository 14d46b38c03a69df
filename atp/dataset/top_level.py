"""The fields at the top level of a JSON file, and every key that an object holds twice.

A parser keeps only the last value of such a key; a file must come out as it went in, so it is
refused.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import ijson
from ijson.backends import yajl2_c

from atp.dataset.reader import PARSER_ERRORS
from atp.dataset.source import UnreadableError
from atp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from atp.dataset.source import CheckedFile

    Event = tuple[str, Any]
    Machine = Generator[None, Iterator[Event], Any]
    OnFault = Callable[[InputError], None]

LONGEST_KEY = 40  # characters of a key in a message
MAX_DEPTH = 200  # levels of nesting; orjson writes 254
AMBIGUOUS = "results.item"  # ijson's name for an element of `results` and for such a field
STEPS = {"start_map": 1, "start_array": 1, "end_map": -1, "end_array": -1}
STRUCTURE = {*STEPS, "map_key"}


class TopLevel:
    """A file for ijson; while ijson reads the questions, this reads the top level around them.

    A second parser takes the same bytes, ahead of the one that builds the questions: nesting that
    is too deep is refused before memory is needed for it. `on_fault` takes each error for which a
    run refuses the file; if it returns, the reading continues.
    """

    def __init__(self, path: Path, file: CheckedFile, on_fault: OnFault) -> None:
        self.path, self.file, self.on_fault = path, file, on_fault
        self.fields: dict[str, Any] = {}  # in order; the value of `results` is None here
        self.repeated_keys: deque[tuple[int, str]] = deque()  # with their index in `results`
        self._broken: Exception | None = None
        self._parsed: Any = ijson.sendable_list()
        self._parser = yajl2_c.basic_parse_coro(self._parsed)
        self._events: Iterator[Event] = iter(())
        self._machine = self._top_level()
        next(self._machine)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, after the top level has been read up to their end."""
        data = self.file.read(size)
        if self._broken is None and size:  # ijson asks for 0 bytes first, to learn their type
            try:
                with suppress(StopIteration):  # how the parser ends, at the empty bytes
                    self._parser.send(data)
            except PARSER_ERRORS as error:
                self._broken = error  # the questions before the break are still to be read
            self._machine.send(iter(self._parsed))
            del self._parsed[:]
        return data

    def finish(self) -> None:
        """Raise one of PARSER_ERRORS, or an UnreadableError, if the whole file is no input."""
        if self._broken is not None:
            raise self._broken
        if "results" not in self.fields:
            raise _wrong_shape(self.path)

    def _top_level(self) -> Machine:
        self._events = yield
        if (yield from self._next())[0] != "start_map":
            raise _wrong_shape(self.path)  # at once: the other parser's memory grows with depth²
        while (field := (yield from self._next()))[0] != "end_map":
            yield from self._field(field[1])
        while True:  # the parser refuses what follows
            self._events = yield

    def _next(self) -> Machine:
        while True:
            for event in self._events:
                return event
            self._events = yield

    def _field(self, key: str) -> Machine:
        if key in self.fields:
            msg = f"{self.path} holds {key[:LONGEST_KEY]!r} twice at its top level."
            self.on_fault(InputError(msg, "Keep one of them."))
        if key == AMBIGUOUS:
            msg = f'{self.path} holds "{key}" at its top level, which reads like the questions.'
            raise UnreadableError(msg, "Give it another name.")
        if key == "results":
            yield from self._skip_list()
            self.fields[key] = None
            return
        value = yield from self._value(key)
        if key == "metadata" and not isinstance(value, dict):
            msg = f"{self.path}: metadata is not an object."
            hint = "atp adds its own entry there; make it an object or leave it out."
            self.on_fault(InputError(msg, hint))
        self.fields[key] = value

    def _value(self, key: str) -> Machine:
        repeated: list[str] = []
        builder = ijson.ObjectBuilder(map_type=noting_repeats(repeated))
        depth = 0
        while True:
            event, value = yield from self._next()
            depth += STEPS.get(event, 0)
            _check_depth(depth, f"{self.path}: {key[:LONGEST_KEY]!r} at its top level")
            builder.event(event, value)
            if depth == 0:
                break
        for inner in dict.fromkeys(repeated):
            self.on_fault(repeated_key(f"{self.path}: {key}", inner))
        return builder.value

    def _skip_list(self) -> Machine:  # noqa: C901  (one loop, without calls: it is hot)
        """Read over `results`, which must be a list; gigabytes pass here, so it does little."""
        if (yield from self._next())[0] != "start_array":
            raise _wrong_shape(self.path)
        depth, index = 1, 0
        keys: set[str] = set()
        outer: list[set[str]] = []
        while True:
            for event, value in self._events:
                if event not in STRUCTURE:  # a number or a text: most of a file
                    index += depth == 1
                    continue
                if event == "map_key":
                    if value in keys:
                        self.repeated_keys.append((index, value))
                    keys.add(value)
                    continue
                if event == "start_map":
                    outer.append(keys)
                    keys = set()
                elif event == "end_map":
                    keys = outer.pop()
                depth += STEPS[event]
                if depth > MAX_DEPTH:
                    _check_depth(depth, f"{self.path}: results[{index}]")
                if depth <= 1:  # the end of an element, or of the list
                    if depth == 0:
                        return
                    index += 1
            self._events = yield


def noting_repeats(repeated: list[str]) -> type[dict[str, Any]]:
    """Return a kind of dict that appends to `repeated` each key that is set a second time."""

    class NotingRepeats(dict[str, Any]):
        __slots__ = ()

        def __setitem__(self, key: str, value: Any) -> None:  # noqa: ANN401  (any JSON value)
            if key in self:
                repeated.append(key)
            dict.__setitem__(self, key, value)

    return NotingRepeats


def repeated_key(place: str, key: str) -> InputError:
    """Return the error for a key that an object holds twice."""
    msg = f"{place} holds {key[:LONGEST_KEY]!r} twice in one object."
    return InputError(msg, "Only the last value would come out again; keep one of them.")


def check_line_depth(line: bytes, place: str) -> None:
    """Refuse a line of JSON Lines that is nested too deeply, before memory is needed for it."""
    if line.count(b"[") + line.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    with suppress(*PARSER_ERRORS):  # the parser that builds the question reports them
        for event, _ in yajl2_c.basic_parse(line):
            depth += STEPS.get(event, 0)
            _check_depth(depth, place)


def _check_depth(depth: int, place: str) -> None:
    if depth > MAX_DEPTH:
        msg = f"{place} is nested more than {MAX_DEPTH} levels deep."
        raise UnreadableError(msg, "Such nesting cannot be written again; flatten it.")


def _wrong_shape(path: Path) -> UnreadableError:
    return UnreadableError(
        f'{path} has no "results" list at its top level.',
        'Write {"results": [{"variations": [...]}]}, or one question a line in a *.jsonl file.',
    )
