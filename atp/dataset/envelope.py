"""The top level of a JSON input: its fields, without the content of `results`.

It is read beside the questions, from the same bytes and ahead of them: what makes the questions
would need memory for whatever is nested deeply.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import ijson
from ijson.backends import yajl2_c

from atp.dataset.keys import KEEP_ONE, LONGEST_KEY, once
from atp.dataset.reader import PARSER_ERRORS
from atp.dataset.source import UnreadableError
from atp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from pathlib import Path

    from atp.dataset.source import CheckedBytes

    Event = tuple[str, Any]
    Machine = Generator[None, Iterator[Event], Any]

MAX_DEPTH = 200
"""Levels of nesting; orjson writes 254."""
AMBIGUOUS = "results.item"
"""What ijson calls an element of `results`, and a top-level field of this very name, too."""
STEPS = {"start_map": 1, "start_array": 1, "end_map": -1, "end_array": -1}
STRUCTURE = {*STEPS, "map_key"}


class Envelope:
    """A file for ijson whose top level is known once it is read.

    Args:
        path: of the file, for messages.
        file: its bytes.
        fault: told of what a run refuses the file for; when it returns, the reading goes on.

    Raises:
        UnreadableError: from `read` and `finish`, where it cannot go on.
    """

    def __init__(self, path: Path, file: CheckedBytes, fault: Callable[[InputError], None]) -> None:
        self.path, self.file, self.fault = path, file, fault
        self.fields: list[tuple[str, Any]] = []
        """In order; `results` stands there with None as its value."""
        self._names: set[str] = set()
        self.twice: deque[tuple[int, str]] = deque()
        """Keys that stand twice in an object: the index in `results`, and the key."""
        self._broken: Exception | None = None
        self._found: Any = ijson.sendable_list()
        self._parser = yajl2_c.basic_parse_coro(self._found)
        self._events: Iterator[Event] = iter(())
        self._machine = self._top_level()
        next(self._machine)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; what they say of the top level is known by then."""
        data = self.file.read(size)
        if self._broken is None and size:  # ijson asks for 0 bytes first, to see what it gets
            try:
                with suppress(StopIteration):  # its end, told by the empty bytes
                    self._parser.send(data)
            except PARSER_ERRORS as error:
                self._broken = error  # the questions before the break are still to come
            self._machine.send(iter(self._found))
            del self._found[:]
        return data

    def finish(self) -> None:
        """Make sure, after the last byte, that the file is what it should be.

        Raises:
            ijson.JSONError: or another of PARSER_ERRORS: it is not JSON.
        """
        if self._broken is not None:
            raise self._broken
        if "results" not in self._names:
            raise _wrong_shape(self.path)

    def _top_level(self) -> Machine:
        """Take the events, an iterator of them at a time."""
        self._events = yield
        if (yield from self._next())[0] == "start_map":
            while (field := (yield from self._next()))[0] != "end_map":
                yield from self._field(field[1])
        while True:  # trailing garbage is the parser's to find
            self._events = yield

    def _next(self) -> Machine:
        while True:
            for event in self._events:
                return event
            self._events = yield

    def _field(self, key: str) -> Machine:
        if key in self._names:
            msg = f"{self.path} holds {key[:40]!r} twice at its top level."
            self.fault(InputError(msg, "Keep one of them."))
        self._names.add(key)
        if key == AMBIGUOUS:
            msg = f'{self.path} holds "{key}" at its top level, which reads like the questions.'
            raise UnreadableError(msg, "Give it another name.")
        if key == "results":
            yield from self._skip_list()
            self.fields.append((key, None))
            return
        value = yield from self._value(key)
        if key == "metadata" and not isinstance(value, dict):
            msg = f"{self.path}: metadata is not an object."
            hint = "atp adds its own entry there; make it an object or leave it out."
            self.fault(InputError(msg, hint))
        self.fields.append((key, value))

    def _value(self, key: str) -> Machine:
        """Read one top-level value."""
        twice: list[str] = []
        builder = ijson.ObjectBuilder(map_type=once(twice))
        depth = 0
        while True:
            event, value = yield from self._next()
            depth += STEPS.get(event, 0)
            check_depth(depth, f"{self.path}: {key[:40]!r} at its top level")
            builder.event(event, value)
            if depth == 0:
                break
        for inner in dict.fromkeys(twice):
            msg = f"{self.path}: {key} holds {inner[:LONGEST_KEY]!r} twice in one object."
            self.fault(InputError(msg, KEEP_ONE))
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
                        self.twice.append((index, value))
                    keys.add(value)
                    continue
                if event == "start_map":
                    outer.append(keys)
                    keys = set()
                elif event == "end_map":
                    keys = outer.pop()
                depth += STEPS[event]
                if depth > MAX_DEPTH:
                    check_depth(depth, f"{self.path}: results[{index}]")
                if depth <= 1:  # the end of an element, or of the list
                    if depth == 0:
                        return
                    index += 1
            self._events = yield


def check_depth(depth: int, place: str) -> None:
    """Raise UnreadableError where nesting is too deep to be written again."""
    if depth > MAX_DEPTH:
        msg = f"{place} is nested more than {MAX_DEPTH} levels deep."
        raise UnreadableError(msg, "What is nested that deeply cannot be written; flatten it.")


def check_depth_of(events: Iterable[Event], place: str) -> None:
    """Do so for all events of a value."""
    depth = 0
    for event, _ in events:
        depth += STEPS.get(event, 0)
        check_depth(depth, place)


def _wrong_shape(path: Path) -> UnreadableError:
    return UnreadableError(
        f'{path} has no "results" list at its top level.',
        'Write {"results": [{"variations": [...]}]}, or one question a line in a *.jsonl file.',
    )
