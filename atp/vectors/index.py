"""The index of a folder of vectors: the facts of the run, and which pairs each part holds.

    index.jsonl             the first line is the header; then a line for each step of the run:
        {"part": NAME, "bytes": SIZE, "sha256": HASH, "pairs": [[question, variation], ...]}
        {"dropped": NAME}                                         a part that was damaged
        {"analyses": [[[question, variation], analysis], ...]}    pairs without vectors

Each line ends with its checksum, as in a journal. A line that was cut off is dropped; a damaged
one does not count, so that its pairs are captured again. A part's line is added once its file is
on the disk.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from atp.dataset.atomic import atomic_write, not_written
from atp.dataset.journal_contents import sealed, unsealed
from atp.dataset.pairs import PairKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from atp.dataset.journal import Analysis

NAME = "index.jsonl"
HINT = "Free space or repair the folder, then start the same command."


@dataclass(frozen=True)
class PartEntry:
    """The line of a part."""

    name: str
    size: int  # bytes
    sha256: str
    keys: tuple[PairKey, ...]


@dataclass
class Index:
    """The content of an index file."""

    header: dict[str, Any] | None = None  # None: damaged
    parts: dict[str, PartEntry] = field(default_factory=dict)
    """Those that hold, by name."""
    analyses: dict[PairKey, Analysis] = field(default_factory=dict)
    """Of pairs without vectors."""
    count: int = 0  # parts that were ever written; the next one has this number
    damaged: int = 0  # lines
    size: int = 0  # the bytes of all whole lines

    @classmethod
    def read(cls, folder: Path) -> Index:
        """Read the index of a folder; raises OSError."""
        index = cls()
        with (folder / NAME).open("rb") as file:
            for number, line in enumerate(file):
                if not line.endswith(b"\n"):
                    break
                index.size += len(line)
                entry = unsealed(line)
                if entry is None:
                    index.damaged += 1
                elif number == 0:
                    index.header = entry
                else:
                    index.add(entry)
        return index

    def add(self, entry: dict[str, Any]) -> None:
        """Take the entry of a line below the header."""
        if "part" in entry:
            keys = tuple(PairKey(*key) for key in entry["pairs"])
            name = entry["part"]
            self.parts[name] = PartEntry(name, entry["bytes"], entry["sha256"], keys)
            self.count = max(self.count, number_of(name) + 1)
        elif "dropped" in entry:
            self.parts.pop(entry["dropped"], None)
        for key, analysis in entry.get("analyses", ()):
            self.analyses[PairKey(*key)] = analysis

    def keys(self) -> Iterator[PairKey]:
        """Return the pairs that have vectors."""
        return (key for part in self.parts.values() for key in part.keys)


def part_name(number: int) -> str:
    """Return the name of a part's file."""
    return f"part-{number:05}.safetensors"


def number_of(name: str) -> int:
    """Return the number in the name of a part's file."""
    return int(name.removeprefix("part-").partition(".")[0])


def create(folder: Path, header: dict[str, Any]) -> None:
    """Write a new index, which is on disk when this returns."""
    line = sealed(header)
    with atomic_write(folder / NAME, len(line)) as file:
        file.write(line)


def append(folder: Path, index: Index, entry: dict[str, Any]) -> None:
    """Add a line to an index, here and on the disk; a SaveError leaves both without it."""
    line, path = sealed(entry), folder / NAME
    try:
        with path.open("r+b") as file:
            file.truncate(index.size)  # a line that was cut off
            file.seek(index.size)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise not_written(path, error, needed=len(line), hint=HINT) from error
    index.size += len(line)
    index.add(entry)
