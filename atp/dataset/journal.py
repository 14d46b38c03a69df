"""The journal: one line for each pair, appended when its batch is done, fsynced at save points."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from atp.dataset.atomic import atomic_write, not_written
from atp.dataset.journal_contents import JournalContents, read_contents, sealed, unsealed
from atp.errors import SaveError

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from atp.dataset.pairs import PairKey

Analysis = dict[str, Any]
"""The content of `atp_analysis`: scored, skipped, error, or elsewhere: another shard has it."""

SUFFIX = ".journal.jsonl"
HINT = "Saved pairs are safe; repair the disk and start the same command."


def outcome(analysis: Analysis) -> str:
    """Return "error", "skipped", "elsewhere" or "scored"."""
    return next((kind for kind in ("error", "skipped", "elsewhere") if kind in analysis), "scored")


class Journal(JournalContents):
    """An open journal, from `create` or `reopen`; as a context manager it saves and closes."""

    header: dict[str, Any]

    def __init__(self, path: Path, contents: JournalContents) -> None:
        super().__init__(**vars(contents))
        self.path = path
        # Unbuffered: a killed process leaves in the file all that `add` has written.
        self._file: io.FileIO = path.open("r+b", buffering=0)
        self._reader = path.open("rb")
        self._unsaved = 0
        self._intact = not self.torn  # the file ends with a whole line

    @classmethod
    def create(cls, path: Path, header: dict[str, Any]) -> Self:
        """Start a new journal; the header is on disk when this returns."""
        if path.exists():
            msg = f"{path} exists already."
            raise SaveError(msg, "Move it away.")
        line = sealed(header)
        with atomic_write(path, len(line)) as file:  # a journal never exists without its header
            file.write(line)
        return cls.reopen(path)

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """Open the journal of an earlier run; it stays as it is until something is added."""
        try:
            contents = cls.inspect(path)
            if contents.header is None:
                msg = f"{path} is damaged in its first line, which says whose pairs it holds."
                raise SaveError(msg, "Move it away; --fresh does not need it.")
            return cls(path, contents)
        except OSError as error:
            raise not_written(path, error, hint=HINT) from error

    @staticmethod
    def inspect(path: Path) -> JournalContents:
        """Read a journal without opening it for a run; raises OSError."""
        with path.open("rb") as file:
            return read_contents(file)

    @staticmethod
    def header_of(path: Path) -> dict[str, Any] | None:
        """Return the header of a journal; None when it cannot be read."""
        with suppress(OSError), path.open("rb") as file:
            return unsealed(file.readline())
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.save()
        finally:
            self.close()

    def close(self) -> None:
        """Close the file without `save`."""
        self._reader.close()
        try:
            self._file.close()
        except OSError as error:
            raise not_written(self.path, error, hint=HINT) from error

    def __len__(self) -> int:  # pairs with an entry, errors included
        return len(self.offsets)

    @property
    def done(self) -> int:
        """The number of pairs that need no further try."""
        return len(self.offsets) - len(self.failed)

    def is_done(self, key: PairKey) -> bool:
        """Say whether a pair has a final result: errors are tried again."""
        return key in self.offsets and key not in self.failed

    def add(self, key: PairKey, analyses: list[Analysis]) -> None:
        """Append the analyses of one pair, one for each SAE; `save` makes them durable."""
        self.add_all([(key, analyses)])

    def add_all(self, analysed: Sequence[tuple[PairKey, list[Analysis]]]) -> None:
        """Append the analyses of several pairs by one write; after an error none is kept."""
        self._append([{"pair": list(key), "analyses": analyses} for key, analyses in analysed])

    def end(self, when: str) -> None:
        """Record that every pair has its result and the result files are written."""
        self._append([{"ended": when}])
        self.save()

    def save(self) -> int:
        """Flush to the disk itself; return how many bytes were new there."""
        try:
            os.fsync(self._file.fileno())
            self.path.stat()  # a deleted file can still be written, in vain
        except OSError as error:
            raise not_written(self.path, error, needed=self._unsaved, hint=HINT) from error
        saved, self._unsaved = self._unsaved, 0
        return saved

    def analyses(self, key: PairKey) -> list[Analysis] | None:
        """Return the analyses of one pair, or None when it has none yet."""
        offset = self.offsets.get(key)
        if offset is None:
            return None
        self._reader.seek(offset)
        entry = unsealed(self._reader.readline())
        if entry is None:
            msg = f"{self.path} was altered during the run, at byte {offset}."
            raise SaveError(msg, "Start the same command: damaged pairs are computed again.")
        return list(entry["analyses"])

    def all_analyses(self) -> Iterator[list[Analysis]]:
        """Return the analyses of every pair, in input order."""
        return filter(None, map(self.analyses, sorted(self.offsets)))

    def _append(self, entries: Sequence[dict[str, Any]]) -> None:
        """Write entries at the end, all of them or none."""
        lines = [sealed(entry) for entry in entries]
        data = memoryview(b"".join(lines))
        try:
            if not self._intact:
                self._file.truncate(self.size)
                self._intact = True
            self._file.seek(self.size)
            written = 0
            while written < len(data):
                written += self._file.write(data[written:]) or 0
        except OSError as error:
            self._intact = False
            with suppress(OSError):  # else the next addition, or the next start, cuts it off
                self._file.truncate(self.size)
            raise not_written(self.path, error, needed=len(data), hint=HINT) from error
        for entry, line in zip(entries, lines, strict=True):
            self.index(entry, self.size)
            self.size += len(line)
        self._unsaved += len(data)


def journals(folder: Path) -> list[tuple[Path, dict[str, Any] | None]]:
    """Return the journals of a folder with their headers, the latest run first."""
    headers = [(path, Journal.header_of(path)) for path in sorted(folder.glob(f"*{SUFFIX}"))]
    # By their numbers, not their times: the clock may have gone back between two runs.
    return sorted(headers, key=lambda item: (item[1] or {}).get("number", 0), reverse=True)
