"""The bytes of the input: opened behind a byte order mark, hashed, refused if not as they must be.

What is checked here is what the JSON library would alter without a word, or would not survive:
halves of surrogate pairs, and numbers so long that reading them takes hours.
"""

from __future__ import annotations

import hashlib
import re
import stat
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from atp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHUNK = 1 << 16
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
REPLACEMENT = rb"\ufffd"
ESCAPE = len(REPLACEMENT)
SURROGATE = re.compile(
    rb"(?<!\\)(?:\\\\)*(?P<half>\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?:\\u[dD][c-fC-F][0-9a-fA-F]{2})?"
    rb"|[c-fC-F][0-9a-fA-F]{2}))"
)
"""A UTF-16 pair, escaped, or half of one (six bytes): that is no Unicode text, and the JSON
library would write "?" instead."""
UNDECIDED = re.compile(
    rb"(?<!\\)\\+(?:u(?:[0-9a-fA-F]{0,3}|[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?))?\Z"
)
"""An escape at the end of what was read, which the next bytes may go on."""
EVEN_RUN = re.compile(rb"\A(?:\\\\)+(?=\\\\)")
"""All but the last two or three of the backslashes that a text begins with."""

DIGITS = b"0123456789"
MAX_DIGITS = 10_000
"""Digits in a row that a number may have: Python's time to read one grows with their square."""
END_OF_TEXT = re.compile(rb'(?<!\\)(?:\\\\)*"')
OUTSIDE = b"0123456789+-.eE,:[]{} \t\r\nalfnrstu"
"""What stands outside of texts: where there is no quote, anything else is the middle of one."""
QUOTE = re.compile(rb'\\.|"', re.DOTALL)


def is_lines(path: Path) -> bool:
    """Say whether a file is JSON Lines, by its name."""
    return path.suffix.lower() in {".jsonl", ".ndjson"}


class UnreadableError(InputError):
    """What follows in the file cannot be read."""


def refuse(error: InputError) -> None:
    """Raise an error: what is done about one where nobody asks for all."""
    raise error


class Growing:
    """A file for ijson that gives twice as much at a time while one and the same text goes on.

    The parser looks at a text from its start whenever more of it comes: in pieces of one size, a
    text of 100 MB would take minutes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.factor = file, 1

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, or more."""
        data = self.file.read(size * self.factor)
        # The regular expression is slow, and needed only where a text holds quotes itself.
        ends = b'"' in data and (b'\\"' not in data or END_OF_TEXT.search(data))
        within = not ends and data.translate(None, OUTSIDE)
        self.factor = 2 * self.factor if within else 1
        return data


class CheckedBytes:
    """A file for ijson that hashes what it reads and finds what ijson would alter.

    Args:
        file: open, behind a byte order mark.
        path: of the file, for messages.
        fault: told of each half of a surrogate pair, which reads as U+FFFD from then on; refuses
            the file by default.
    """

    def __init__(
        self, file: IO[bytes], path: Path, fault: Callable[[InputError], None] = refuse
    ) -> None:
        self.file, self.path, self.fault = Growing(file), path, fault
        self.digest = hashlib.sha256()
        self.undecided, self.offset = b"", file.tell()
        self.numbers = LongNumbers(path, file.tell())

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes."""
        data = self.file.read(size)
        self.digest.update(data)
        self.numbers.refuse(data)
        window = self.undecided + data
        start = len(window[: max(0, len(window) - 2 * ESCAPE)].rstrip(b"\\"))
        tail = UNDECIDED.search(window, start) if data else None
        known = window[: tail.start()] if tail else window
        # The plain search is fifty times as fast, and nearly always enough.
        mended = None
        suspect = b"\\ud" in known or b"\\uD" in known
        for match in SURROGATE.finditer(known) if suspect else ():
            if len(match["half"]) == ESCAPE:
                at = self.offset + match.start("half")
                msg = f"{self.path} holds half of a surrogate pair at byte {at}."
                self.fault(InputError(msg, "That is no Unicode text; write \\ufffd instead of it."))
                start = match.start("half") - (len(window) - len(data))
                if start >= 0:  # else a part of it is with the parser already
                    mended = mended or bytearray(data)  # in place: there may be a million
                    mended[start : start + ESCAPE] = REPLACEMENT
        # Of a run of backslashes only its being odd or even counts: what is kept stays short.
        self.undecided = EVEN_RUN.sub(b"", tail.group()) if tail else b""
        self.offset += len(window) - len(self.undecided)
        return data if mended is None else bytes(mended)

    def hash_rest(self) -> None:
        """Hash what is left, and look at nothing of it: it follows what cannot be read."""
        while data := self.file.read(CHUNK):
            self.digest.update(data)


class LongNumbers:
    """Refuses a number of more than MAX_DIGITS digits in a row; in a text, they may stand.

    Args:
        path: the file that is read.
        offset: where in it reading begins.
    """

    def __init__(self, path: Path, offset: int) -> None:
        self.path, self.offset = path, offset
        self.run = 0  # digits at the end of what was read
        self.looked, self.in_text = offset, False  # up to where quotes were counted

    def refuse(self, data: bytes) -> None:
        """Look at the next bytes of the file.

        Raises:
            UnreadableError: they hold too long a number, or go on with one; says where it begins.
        """
        for start, end in self._runs(data):
            if end - start > MAX_DIGITS and not self._is_in_text(start):
                number = f"a number of more than {MAX_DIGITS:,} digits at byte {start}"
                msg = f"{self.path} holds {number}."
                raise UnreadableError(msg, "Write it as text, in quotes, or round it.")
        self.run = len(data) - len(data.rstrip(DIGITS)) + (self.run if data.isdigit() else 0)
        self.offset += len(data)

    def _runs(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yield where the first run of digits lies, then each other one that may be too long.

        Such a run covers one of the blocks of half its length: few bytes are looked at.
        """
        end = len(data) - len(data.lstrip(DIGITS))
        yield self.offset - self.run, self.offset + end
        half = MAX_DIGITS // 2
        for block in range(0, len(data), half):
            if block >= end and data[block : block + half].isdigit():
                end = len(data) - len(data[block:].lstrip(DIGITS))
                yield self.offset + len(data[:block].rstrip(DIGITS)), self.offset + end

    def _is_in_text(self, place: int) -> bool:
        """Say whether a byte of the file lies between quotes."""
        with self.path.open("rb") as file:
            file.seek(self.looked)
            rest = b""
            while self.looked < place:
                data = rest + file.read(min(CHUNK, place - self.looked - len(rest)))
                # A backslash at the very end belongs to what follows.
                odd = (len(data) - len(data.rstrip(b"\\"))) % 2
                rest = data[len(data) - odd :]
                self.in_text ^= QUOTE.findall(data).count(b'"') % 2 == 1
                self.looked += len(data) - odd
                if len(data) == odd:
                    break
        return self.in_text


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open the input behind a byte order mark, or say why not."""
    try:
        # Asked before it is opened: opening a pipe waits for a writer.
        if not (stat.S_ISREG(mode := path.stat().st_mode) or stat.S_ISDIR(mode)):
            msg = f"{path} is a pipe or a device, not a file."
            raise InputError(msg, "The input is read more than once: write it to a file first.")
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
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror or error}."
        raise InputError(msg, "Check the name of the input file and its disk.") from error


def split_lines(file: IO[bytes] | CheckedBytes) -> Iterator[bytes]:
    """Yield the lines of a file, without their ends."""
    parts: list[bytes] = []  # joined once: a line may be many chunks long
    while data := file.read(CHUNK):
        first, *others = data.split(b"\n")
        parts.append(first)
        for other in others:
            yield b"".join(parts)
            parts = [other]
    yield b"".join(parts)
