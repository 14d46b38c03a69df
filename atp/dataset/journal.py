"""What survives a crash: one JSON line a pair, flushed and fsynced at save points.

The first line is the run's header: its fingerprint (everything that decides its numbers), its
start time and its name. Every further line is {"pair": [question, variation], "analyses": [...]}
with one analysis for each SAE, in the order of the header; the last one of a finished run is
{"ended": time}. A line that was torn by a crash is
dropped when the journal is opened again; a later line for the same pair wins.
"""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, Any, Self

import orjson

from atp.dataset.atomic import sync_folder
from atp.dataset.pairs import PairKey
from atp.errors import SaveError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Analysis = dict[str, Any]
"""The content of `atp_analysis`: scored, skipped or error."""

SUFFIX = ".journal.jsonl"


def outcome(analysis: Analysis) -> str:
    """Return "error", "skipped" or "scored"."""
    return next((kind for kind in ("error", "skipped") if kind in analysis), "scored")


class Journal:
    """An append-only file of analyses, and where in it each pair's stand.

    Make one with `create` or `reopen`; it is a context manager that saves and closes.
    """

    def __init__(self, path: Path, file: IO[bytes], header: dict[str, Any]) -> None:
        self.path, self.header = path, header
        self._file = file
        self._offsets: dict[PairKey, int] = {}
        self._failed: set[PairKey] = set()
        self.ended: str | None = None
        """When the run came to its end, as written by `end`; None while pairs are left."""

    @classmethod
    def create(cls, path: Path, header: dict[str, Any]) -> Self:
        """Start a new journal; the header is on disk when this returns."""
        try:
            journal = cls(path, path.open("x+b"), header)
            journal._append(header)
            journal.save()
            sync_folder(path.parent)
        except OSError as error:
            raise _unwritable(path, error) from error
        return journal

    @staticmethod
    def header_of(path: Path) -> dict[str, Any] | None:
        """Return the header of a journal without changing it; None when it cannot be read."""
        try:
            with path.open("rb") as file:
                return _whole_line(file.readline())
        except OSError:
            return None

    @classmethod
    def reopen(cls, path: Path) -> Self | None:
        """Open a journal left by an earlier run; None when not even its header is whole."""
        try:
            file = path.open("r+b")
        except OSError as error:
            raise _unwritable(path, error) from error
        line = file.readline()
        header = _whole_line(line)
        if header is None:
            file.close()
            return None
        journal = cls(path, file, header)
        end = len(line)
        while (line := file.readline()) and (entry := _whole_line(line)) is not None:
            journal._index(entry, end)
            end += len(line)
        file.truncate(end)
        file.seek(end)
        return journal

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
        try:
            self._file.close()
        except OSError as error:  # what was buffered could not be written
            raise _unwritable(self.path, error) from error

    def __len__(self) -> int:
        """Return the number of pairs with an entry, errors included."""
        return len(self._offsets)

    @property
    def done(self) -> int:
        """The number of pairs that need no further try."""
        return len(self._offsets) - len(self._failed)

    def is_done(self, key: PairKey) -> bool:
        """Say whether a pair has a result that stands: errors are tried again."""
        return key in self._offsets and key not in self._failed

    def add(self, key: PairKey, analyses: list[Analysis]) -> None:
        """Append the analyses of one pair, one for each SAE; `save` makes them durable."""
        entry = {"pair": list(key), "analyses": analyses}
        self._index(entry, self._append(entry))

    def end(self, when: str) -> None:
        """Note that every pair has its result and the result files are written."""
        self._append({"ended": when})
        self.ended = when
        self.save()

    def save(self) -> None:
        """Flush to the disk itself."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def analyses(self, key: PairKey) -> list[Analysis] | None:
        """Return the analyses of one pair, or None when it has none yet."""
        offset = self._offsets.get(key)
        if offset is None:
            return None
        self._file.seek(offset)
        entry: dict[str, Any] = orjson.loads(self._file.readline())
        analyses: list[Analysis] = entry["analyses"]
        return analyses

    def all_analyses(self) -> Iterator[list[Analysis]]:
        """Yield the analyses of every pair, in input order."""
        for key in sorted(self._offsets):
            analyses = self.analyses(key)
            if analyses is not None:
                yield analyses

    def _append(self, entry: dict[str, Any]) -> int:
        """Write an entry at the end; return where it starts."""
        try:
            offset = self._file.seek(0, os.SEEK_END)
            self._file.write(orjson.dumps(entry) + b"\n")
        except OSError as error:
            raise _unwritable(self.path, error) from error
        return offset

    def _index(self, entry: dict[str, Any], offset: int) -> None:
        self.ended = entry.get("ended")
        if "pair" not in entry:
            return
        key = PairKey(*entry["pair"])
        self._offsets[key] = offset
        if any(outcome(analysis) == "error" for analysis in entry["analyses"]):
            self._failed.add(key)
        else:
            self._failed.discard(key)


def _whole_line(line: bytes) -> dict[str, Any] | None:
    """Return the entry on a line, or None when the line was torn."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None


def _unwritable(path: Path, error: OSError) -> SaveError:
    msg = f"{path} could not be written: {error.strerror or error}."
    return SaveError(msg, "What was saved before stands; mend the disk and start the same command.")
