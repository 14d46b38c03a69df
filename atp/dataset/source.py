"""The bytes of the input: opened behind a byte order mark, hashed, refused if not Unicode text."""

from __future__ import annotations

import hashlib
import re
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


def is_lines(path: Path) -> bool:
    """Say whether a file is JSON Lines, by its name."""
    return path.suffix.lower() in {".jsonl", ".ndjson"}


def refuse(error: InputError) -> None:
    """Raise an error: what is done about one where nobody asks for all."""
    raise error


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
        self.file, self.path, self.fault = file, path, fault
        self.digest = hashlib.sha256()
        self.undecided, self.offset = b"", file.tell()

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes."""
        data = self.file.read(size)
        self.digest.update(data)
        window = self.undecided + data
        start = max(0, len(window) - 2 * ESCAPE)
        while start and window[start - 1 : start] == b"\\":
            start -= 1
        tail = UNDECIDED.search(window, start) if data else None
        self.undecided = window[tail.start() :] if tail else b""
        known = window[: len(window) - len(self.undecided)]
        # The plain search is fifty times as fast, and nearly always enough.
        suspect = b"\\ud" in known or b"\\uD" in known
        for match in SURROGATE.finditer(known) if suspect else ():
            if len(match["half"]) == ESCAPE:
                at = self.offset + match.start("half")
                msg = f"{self.path} holds half of a surrogate pair at byte {at}."
                self.fault(InputError(msg, "That is no Unicode text; write \\ufffd instead of it."))
                start = match.start("half") - (len(window) - len(data))
                if start >= 0:  # else a part of it is with the parser already
                    data = data[:start] + REPLACEMENT + data[start + ESCAPE :]
        self.offset += len(known)
        return data


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
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
