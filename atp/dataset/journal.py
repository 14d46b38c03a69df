"""What survives a crash: one line a pair, written when its batch is done, fsynced at save points.

The first line is the run's header: its fingerprint (everything that decides its numbers), its
start time and its name. Every further line is {"pair": [question, variation], "analyses": [...]}
with one analysis for each SAE, in the order of the header; the last one of a finished run is
{"ended": time}. Each line carries a checksum (lines.py).

A line that a crash has torn off, the last one, is dropped when the journal is opened again; a line
that is damaged is told and left where it is; a later line for the same pair wins.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Self

from atp.dataset.atomic import atomic_write, not_written
from atp.dataset.lines import sealed, unsealed
from atp.dataset.pairs import PairKey
from atp.errors import SaveError

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Analysis = dict[str, Any]
"""The content of `atp_analysis`: scored, skipped, error, or elsewhere: another shard has it."""

SUFFIX = ".journal.jsonl"

HINT = "What was saved before stands; mend the disk and start the same command."


def outcome(analysis: Analysis) -> str:
    """Return "error", "skipped", "elsewhere" or "scored"."""
    kinds = ("error", "skipped", "elsewhere")
    return next((kind for kind in kinds if kind in analysis), "scored")


@dataclass(frozen=True)
class Damage:
    """A whole line that is not what was written."""

    line: int
    """Counted from 1, the header."""
    offset: int
    """Where it starts, in bytes."""


@dataclass
class Contents:
    """What a journal file holds, and where."""

    header: dict[str, Any] | None = None
    """None: the first line is torn or damaged, so that nobody knows whose pairs follow."""
    offsets: dict[PairKey, int] = field(default_factory=dict)
    """Where the latest line of each pair starts."""
    failed: set[PairKey] = field(default_factory=set)
    """The pairs that ended in an error; they are tried again."""
    ended: str | None = None
    """When the run came to its end; None while pairs are left."""
    damaged: list[Damage] = field(default_factory=list)
    end: int = 0
    """Where the last whole line ends, in bytes."""
    torn: int = 0
    """Bytes behind that: the line a crash has cut off."""

    @classmethod
    def of(cls, file: IO[bytes]) -> Self:
        """Read a journal from its start."""
        found = cls()
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                found.torn = len(line)
                break
            entry = unsealed(line)
            if entry is None:
                found.damaged.append(Damage(number, found.end))
            elif number == 1:
                found.header = entry
            else:
                found.index(entry, found.end)
            found.end += len(line)
        return found

    def index(self, entry: dict[str, Any], offset: int) -> None:
        """Take note of a line behind the header."""
        self.ended = entry.get("ended")
        if "pair" not in entry:
            return
        key = PairKey(*entry["pair"])
        self.offsets[key] = offset
        if any(outcome(analysis) == "error" for analysis in entry["analyses"]):
            self.failed.add(key)
        else:
            self.failed.discard(key)


class Journal:
    """An append-only file of analyses, and where in it each pair's stand.

    Make one with `create` or `reopen`; it is a context manager that saves and closes.
    """

    def __init__(self, path: Path, header: dict[str, Any], contents: Contents) -> None:
        self.path, self.header = path, header
        self._contents = contents
        # Unbuffered: what `add` has written, a killed process leaves behind.
        self._file: io.FileIO = path.open("r+b", buffering=0)
        self._reader = path.open("rb")
        self._unsaved = 0
        self._intact = not contents.torn
        """Whether the file ends with a whole line."""

    @classmethod
    def create(cls, path: Path, header: dict[str, Any]) -> Self:
        """Start a new journal; the header is on disk when this returns.

        Raises:
            SaveError: it cannot be written, or there is one already.
        """
        if path.exists():
            msg = f"{path} exists already."
            raise SaveError(msg, "Move it away.")
        line = sealed(header)
        with atomic_write(path, len(line)) as file:  # no journal is there without its header
            file.write(line)
        return cls.reopen(path)

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """Open a journal left by an earlier run.

        Nothing in it is changed before something is added.

        Raises:
            SaveError: it cannot be opened, or its header is damaged.
        """
        try:
            contents = cls.inspect(path)
            if contents.header is None:
                msg = f"{path} is damaged in its first line: nobody knows whose pairs it holds."
                raise SaveError(msg, "Move it away; --fresh does not need it.")
            return cls(path, contents.header, contents)
        except OSError as error:
            raise not_written(path, error, hint=HINT) from error

    @staticmethod
    def inspect(path: Path) -> Contents:
        """Return what a journal holds, and change nothing.

        Raises:
            OSError: it cannot be read.
        """
        with path.open("rb") as file:
            return Contents.of(file)

    @staticmethod
    def header_of(path: Path) -> dict[str, Any] | None:
        """Return the header of a journal; None when it cannot be read."""
        try:
            with path.open("rb") as file:
                return unsealed(file.readline())
        except OSError:
            return None

    def __enter__(self) -> Self:
        """Return the journal itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Save and close, however the run ended."""
        try:
            self.save()
        finally:
            self.close()

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
        try:
            self._file.close()
        except OSError as error:
            raise not_written(self.path, error, hint=HINT) from error

    def __len__(self) -> int:
        """Return the number of pairs with an entry, errors included."""
        return len(self._contents.offsets)

    @property
    def done(self) -> int:
        """The number of pairs that need no further try."""
        return len(self._contents.offsets) - len(self._contents.failed)

    @property
    def ended(self) -> str | None:
        """When the run came to its end, as written by `end`; None while pairs are left."""
        return self._contents.ended

    @property
    def damaged(self) -> Sequence[Damage]:
        """The lines that were damaged when the journal was opened."""
        return self._contents.damaged

    @property
    def torn(self) -> int:
        """The bytes of a last line that a crash had cut off when the journal was opened."""
        return self._contents.torn

    @property
    def size(self) -> int:
        """Its bytes."""
        return self._contents.end

    def is_done(self, key: PairKey) -> bool:
        """Say whether a pair has a result that stands: errors are tried again."""
        return key in self._contents.offsets and key not in self._contents.failed

    def add(self, key: PairKey, analyses: list[Analysis]) -> None:
        """Append the analyses of one pair, one for each SAE; `save` makes them durable."""
        self.add_all([(key, analyses)])

    def add_all(self, analysed: Sequence[tuple[PairKey, list[Analysis]]]) -> None:
        """Append the analyses of several pairs by one write: a kill leaves all of them or none.

        Raises:
            SaveError: they cannot be written; none of them is in the journal then.
        """
        self._append([{"pair": list(key), "analyses": analyses} for key, analyses in analysed])

    def end(self, when: str) -> None:
        """Note that every pair has its result and the result files are written."""
        self._append([{"ended": when}])
        self.save()

    def save(self) -> int:
        """Flush to the disk itself; return how many bytes were new there.

        Raises:
            SaveError: it cannot be written, or is no longer there.
        """
        try:
            os.fsync(self._file.fileno())
            self.path.stat()  # an open file outlives its name: it could be written in vain
        except OSError as error:
            raise not_written(self.path, error, needed=self._unsaved, hint=HINT) from error
        saved, self._unsaved = self._unsaved, 0
        return saved

    def analyses(self, key: PairKey) -> list[Analysis] | None:
        """Return the analyses of one pair, or None when it has none yet.

        Raises:
            SaveError: the journal was altered since it was opened.
        """
        offset = self._contents.offsets.get(key)
        if offset is None:
            return None
        self._reader.seek(offset)
        entry = unsealed(self._reader.readline())
        if entry is None:
            msg = f"{self.path} was altered during the run, at byte {offset}."
            raise SaveError(msg, "Start the same command: what is damaged is computed again.")
        analyses: list[Analysis] = entry["analyses"]
        return analyses

    def all_analyses(self) -> Iterator[list[Analysis]]:
        """Yield the analyses of every pair, in input order."""
        for key in sorted(self._contents.offsets):
            analyses = self.analyses(key)
            if analyses is not None:
                yield analyses

    def _append(self, entries: Sequence[dict[str, Any]]) -> None:
        """Write entries at the end, all of them or none."""
        lines = [sealed(entry) for entry in entries]
        data = memoryview(b"".join(lines))
        try:
            if not self._intact:
                self._file.truncate(self._contents.end)
                self._intact = True
            self._file.seek(self._contents.end)
            written = 0
            while written < len(data):
                written += self._file.write(data[written:]) or 0
        except OSError as error:
            self._intact = False
            with suppress(OSError):  # else the next addition, or start, cuts it off
                self._file.truncate(self._contents.end)
            raise not_written(self.path, error, needed=len(data), hint=HINT) from error
        for entry, line in zip(entries, lines, strict=True):
            self._contents.index(entry, self._contents.end)
            self._contents.end += len(line)
        self._unsaved += len(data)


def journals(folder: Path) -> list[tuple[Path, dict[str, Any] | None]]:
    """Return the journals of a folder with their headers, the latest run first.

    Runs are numbered by their headers: the clock may have gone back between two of them.
    """
    found = [(path, Journal.header_of(path)) for path in sorted(folder.glob(f"*{SUFFIX}"))]
    return sorted(found, key=lambda item: (item[1] or {}).get("number", 0), reverse=True)
