"""The bytes of the input: opened behind a byte order mark, hashed and checked."""

from __future__ import annotations

import hashlib
import re
import stat
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from atp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader
    from pathlib import Path

CHUNK = 1 << 16
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
REPLACEMENT = rb"\ufffd"
ESCAPE = len(REPLACEMENT)
SURROGATE = re.compile(  # a UTF-16 pair, escaped (12 bytes), or half of one (6 bytes)
    rb"(?<!\\)(?:\\\\)*(?P<half>\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?:\\u[dD][c-fC-F][0-9a-fA-F]{2})?"
    rb"|[c-fC-F][0-9a-fA-F]{2}))"
)
UNDECIDED = re.compile(  # an escape at the end of a piece, which the next piece may continue
    rb"(?<!\\)\\+(?:u(?:[0-9a-fA-F]{0,3}|[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?))?\Z"
)
# All but the last two or three of the backslashes that a text begins with.
EVEN_RUN = re.compile(rb"\A(?:\\\\)+(?=\\\\)")

DIGITS = b"0123456789"
MAX_DIGITS = 10_000  # in a row: Python's time to read a number grows with their square
END_OF_TEXT = re.compile(rb'(?<!\\)(?:\\\\)*"')
OUTSIDE = b"0123456789+-.eE,:[]{} \t\r\nalfnrstu"
"""All bytes that JSON has outside of texts: a piece without quotes that holds another byte is the
middle of a text."""
QUOTE = re.compile(rb'\\.|"', re.DOTALL)


def is_lines(path: Path) -> bool:
    """Say whether a file is JSON Lines, by its name."""
    return path.suffix.lower() in {".jsonl", ".ndjson"}


class UnreadableError(InputError):
    """The rest of the file cannot be read."""


def refuse(error: InputError) -> None:
    """Raise an error: the default where no caller collects all of them."""
    raise error


class GrowingPieces:
    """A file for ijson whose pieces double in size while one and the same text continues.

    The parser reads an unfinished text again from its start with every further piece. In pieces
    of one size, a text of 100 MB would take minutes.
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


class CheckedFile:
    """A file for ijson that hashes its bytes and finds what ijson would alter or not survive.

    Half of a surrogate pair is no Unicode text, and ijson would write "?" for it. `on_fault` takes
    its error; U+FFFD replaces it, so that the reading can continue and find other faults.
    A number of more than MAX_DIGITS digits, which would take hours, raises an UnreadableError.
    """

    def __init__(
        self, file: IO[bytes], path: Path, on_fault: Callable[[InputError], None] = refuse
    ) -> None:
        self.file, self.path, self.on_fault = GrowingPieces(file), path, on_fault
        self.offset = file.tell()  # of the next byte
        self.digest = hashlib.sha256(BYTE_ORDER_MARK if self.offset else b"")
        self.undecided = b""  # an escape, or backslashes, at the end of the last piece
        self.digits = 0  # in a row, at the end of the last piece
        self.looked, self.in_text = self.offset, False  # up to where quotes were counted

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, or more."""
        data = self.file.read(size)
        self.digest.update(data)
        self._refuse_long_numbers(data)
        mended = self._mend_half_pairs(data)
        self.offset += len(data)
        return mended

    def hash_rest(self) -> None:
        """Hash the remaining bytes without a check: they follow a fault that ends the reading."""
        while data := self.file.read(CHUNK):
            self.digest.update(data)

    def _mend_half_pairs(self, data: bytes) -> bytes:
        # A piece may end within an escape: that end is undecided until the next piece comes.
        window = self.undecided + data
        start = len(window[: max(0, len(window) - 2 * ESCAPE)].rstrip(b"\\"))
        tail = UNDECIDED.search(window, start) if data else None
        known = window[: tail.start()] if tail else window
        before = len(window) - len(data)
        mended = None
        # The plain search is fifty times as fast, and nearly always enough.
        suspect = b"\\ud" in known or b"\\uD" in known
        for match in SURROGATE.finditer(known) if suspect else ():
            if len(match["half"]) == ESCAPE:
                place = match.start("half") - before
                msg = f"{self.path} holds half of a surrogate pair at byte {self.offset + place}."
                hint = "It is no Unicode text; write \\ufffd instead of it."
                self.on_fault(InputError(msg, hint))
                if place >= 0:  # else the parser has a part of it already
                    mended = mended or bytearray(data)  # in place: there may be a million
                    mended[place : place + ESCAPE] = REPLACEMENT
        # Of a run of backslashes only its being odd or even counts: what is kept stays short.
        self.undecided = EVEN_RUN.sub(b"", tail.group()) if tail else b""
        return data if mended is None else bytes(mended)

    def _refuse_long_numbers(self, data: bytes) -> None:
        for start, end in self._runs_of_digits(data):
            if end - start > MAX_DIGITS and not self._is_in_text(start):
                number = f"a number of more than {MAX_DIGITS:,} digits at byte {start}"
                msg = f"{self.path} holds {number}."
                raise UnreadableError(msg, "Write it as text, in quotes, or round it.")
        self.digits = len(data) - len(data.rstrip(DIGITS)) + (self.digits if data.isdigit() else 0)

    def _runs_of_digits(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yield where the first run of digits lies, then each other one that may be too long.

        Such a run covers one of the blocks of half its length: few bytes are looked at.
        """
        end = len(data) - len(data.lstrip(DIGITS))
        yield self.offset - self.digits, self.offset + end
        half = MAX_DIGITS // 2
        for block in range(0, len(data), half):
            if block >= end and data[block : block + half].isdigit():
                end = len(data) - len(data[block:].lstrip(DIGITS))
                yield self.offset + len(data[:block].rstrip(DIGITS)), self.offset + end

    def _is_in_text(self, place: int) -> bool:
        """Say whether a byte of the file lies between quotes; counts on from the last call."""
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
def opened(path: Path) -> Iterator[BufferedReader]:
    """Open the input behind a byte order mark; an InputError says why it cannot be opened."""
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


def split_lines(file: IO[bytes] | CheckedFile) -> Iterator[bytes]:
    """Yield the lines of a file, without their ends."""
    parts: list[bytes] = []  # joined once: a line may be many chunks long
    while data := file.read(CHUNK):
        first, *others = data.split(b"\n")
        parts.append(first)
        for other in others:
            yield b"".join(parts)
            parts = [other]
    yield b"".join(parts)
