"""The lines of a journal file, and the place of each pair's line.

The first line is the run's header: its fingerprint (everything that decides its numbers), its
start time and its name. Every further line is {"pair": [question, variation], "analyses": [...]}
with one analysis for each SAE, in the order of the header; the last one of a finished run is
{"ended": time}. Each line ends with the CRC-32 of the bytes before it:

    {"pair":[0,1],"analyses":[...],"crc32":"0a1b2c3d"}

An incomplete last line, cut off by a crash, is dropped. A damaged line is reported and does not
count; it stays in the file. A later line for the same pair wins.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from typing import IO, Any

import orjson

from atp.dataset.pairs import PairKey

# The end of a line; the comma is there unless the object is empty.
SEAL = re.compile(rb'(,?)"crc32":"([0-9a-f]{8})"\}\n\Z')
SEAL_BYTES = len(b',"crc32":"0a1b2c3d"}\n')


def sealed(entry: dict[str, Any]) -> bytes:
    """Return an object as a line with its checksum."""
    body = orjson.dumps(entry)[:-1]
    comma = b"," if entry else b""
    return b'%s%s"crc32":"%08x"}\n' % (body, comma, zlib.crc32(body))


def unsealed(line: bytes) -> dict[str, Any] | None:
    """Return the object on a line, or None when the line is not as it was written."""
    seal = SEAL.search(line, max(0, len(line) - SEAL_BYTES))
    if seal is None:
        return None
    body = line[: seal.start()]
    if int(seal[2], 16) != zlib.crc32(body):
        return None
    try:
        entry = orjson.loads(body + b"}")
    except orjson.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None


@dataclass(frozen=True)
class Damage:
    """A complete line that is not as it was written."""

    line: int  # counted from 1, the header
    offset: int  # of its first byte


@dataclass
class JournalContents:
    """The entries of a journal file, and their places."""

    header: dict[str, Any] | None = None  # None: damaged, so it is unknown whose pairs follow
    offsets: dict[PairKey, int] = field(default_factory=dict)  # of each pair's latest line, bytes
    failed: set[PairKey] = field(default_factory=set)  # pairs with an error; they are tried again
    ended: str | None = None  # the time at which the run ended; None while pairs are left
    damaged: list[Damage] = field(default_factory=list)
    size: int = 0  # the bytes of all whole lines
    torn: int = 0  # the bytes after these: a line that a crash cut off

    def index(self, entry: dict[str, Any], offset: int) -> None:
        """Record the entry of a line below the header."""
        self.ended = entry.get("ended")
        if "pair" not in entry:
            return
        key = PairKey(*entry["pair"])
        self.offsets[key] = offset
        if any("error" in analysis for analysis in entry["analyses"]):
            self.failed.add(key)
        else:
            self.failed.discard(key)


def read_contents(file: IO[bytes]) -> JournalContents:
    """Read a journal from its start."""
    contents = JournalContents()
    for number, line in enumerate(file, start=1):
        if not line.endswith(b"\n"):
            contents.torn = len(line)
            break
        entry = unsealed(line)
        if entry is None:
            contents.damaged.append(Damage(number, contents.size))
        elif number == 1:
            contents.header = entry
        else:
            contents.index(entry, contents.size)
        contents.size += len(line)
    return contents
