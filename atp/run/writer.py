"""ResultWriter: saves analyses, in the journal at once and in the result files from time to time.

It also counts pairs: how many are done, at which rate, and how long the rest will take.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from atp.dataset.input_scan import check_unchanged
from atp.dataset.journal import Journal, journals, outcome
from atp.dataset.results import write_results
from atp.errors import AtpError, SaveError, StoppedError
from atp.run.metadata import metadata, now

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from atp.dataset.input_scan import InputScan
    from atp.dataset.journal import Analysis
    from atp.dataset.pairs import PairKey

REFRESH_SHARE = 0.003  # the share of a run's time that refreshing the result files may take

SAVE_SHARE = 0.05
"""The share of a run's time that fsyncs may take: one that took long is followed by a pause."""

CATCH_UP_SECONDS = 30.0
"""The time that a start may spend on result files that a killed run left behind its journal."""

log = structlog.get_logger()


def result_paths(journal: Journal) -> list[Path]:
    """Return the result files of a run, one for each SAE."""
    return [journal.path.parent / name for name in journal.header["results"]]


def catch_up(folder: Path, scan: InputScan) -> None:
    """Bring the result files of killed runs over this input up to their journals.

    This happens before anything is loaded, so that the files are there even if this start is
    stopped while it loads. Files that would take long are left to the run itself, and journals of
    another user to that user.
    """
    if 2 * scan.seconds > CATCH_UP_SECONDS:
        return
    for path, header in journals(folder):
        if header is None or header["facts"]["input"]["sha256"] != scan.sha256:
            continue
        if not os.access(path, os.W_OK):
            continue
        with Journal.reopen(path) as journal:
            files = result_paths(journal)
            if journal.ended is None and len(journal) and _behind(files, path):
                write_results(scan, journal, files, metadata(scan, journal, now()))


def _behind(files: Sequence[Path], journal: Path) -> bool:
    """Return whether a file is missing or may be older than the journal: clocks are coarse."""
    saved = journal.stat().st_mtime_ns
    return any(not file.exists() or file.stat().st_mtime_ns <= saved for file in files)


@dataclass
class ResultWriter:
    """The journal and the result files of one run."""

    scan: InputScan
    journal: Journal
    n_saes: int
    save_interval: int
    advance: Callable[[int], None] = lambda _: None
    """Called with the number of pairs just handled."""
    done_before: int = field(init=False)  # pairs that were done when the run began
    handled: int = field(init=False)
    """Pairs that need nothing more from this run: done before, or tried by it."""
    refresh_seconds: float = field(init=False)
    """The expected time of writing the result files."""
    began: float = field(default_factory=time.monotonic)
    saving_seconds: float = 0.0  # the time that journal and result files took so far
    refreshed_seconds: float = 0.0  # the part of it that the result files took
    entries: Sequence[dict[str, Any]] = ()
    """`metadata.atp` of the result files as last written."""
    unsaved: int = 0
    """Pairs in the journal that are not fsynced; those of other shards cost nothing."""
    of_other_shards: int = 0  # pairs of other shards that this process has recorded
    pause_until: float = 0.0  # the time before which no further save is due

    def __post_init__(self) -> None:
        # Until the first refresh is timed: reading and writing take about as long.
        self.refresh_seconds = 2 * self.scan.seconds
        self.done_before = self.handled = self.journal.done

    @property
    def paths(self) -> list[Path]:
        """The result files, one for each SAE."""
        return result_paths(self.journal)

    @property
    def total(self) -> int:
        """The number of pairs of the run."""
        return int(self.journal.header["pairs"])

    @property
    def finished(self) -> bool:
        """Whether an earlier start has done everything."""
        return self.journal.ended is not None and self._files_exist()

    @property
    def failed(self) -> int:
        """The number of pairs with an error, or never tried."""
        return self.total - self.journal.done

    def is_done(self, key: PairKey) -> bool:
        """Return whether a pair has a result that stands; errors are tried again."""
        return self.journal.is_done(key)

    def elapsed(self) -> float:
        """Return the seconds since the run began."""
        return time.monotonic() - self.began

    def progress(self) -> dict[str, float | None]:
        """Return the log's fields on progress: pairs, pairs a second, seconds left.

        Pairs of other shards take turns with this shard's: they bring the end nearer, but count as
        no work.
        """
        elapsed = max(self.elapsed(), 1e-9)
        handled = self.handled - self.done_before
        return {
            "done": self.handled,
            "total": self.total,
            "pairs_per_second": round((handled - self.of_other_shards) / elapsed, 3),
            "seconds_left": round((self.total - self.handled) * elapsed / handled, 1)
            if handled
            else None,
        }

    def append(self, analysed: Sequence[tuple[PairKey, list[Analysis]]]) -> int:
        """Add the analyses of pairs that are not done yet to the journal; return their number.

        A pair has one analysis for each SAE, or a single one for all of them. A journal that cannot
        be written holds none of them and raises SaveError, an input changed since its scan
        InputError.
        """
        new = [
            (key, analyses * (self.n_saes // len(analyses)))
            for key, analyses in analysed
            if not self.is_done(key)
        ]
        if not new:
            return 0
        # Otherwise the numbers of a changed text would be saved under the hash of the old one.
        check_unchanged(self.scan)
        began = time.monotonic()
        self.journal.add_all(new)
        self._count_saving(began)
        for key, analyses in new:
            for analysis in {id(analysis): analysis for analysis in analyses}.values():
                if (kind := outcome(analysis)) == "error":
                    log.warning("pair.error", pair=str(key), reason=analysis[kind])
                elif kind == "skipped":
                    log.info("pair.skipped", pair=str(key), reason=analysis[kind])
        of_other_shards = sum(outcome(analyses[0]) == "elsewhere" for _, analyses in new)
        self.of_other_shards += of_other_shards
        self.unsaved += len(new) - of_other_shards
        self.handled += len(new)
        self.advance(len(new))
        return len(new)

    def save_if_due(self) -> None:
        """Fsync after save_interval pairs, and refresh the result files, if time allows it."""
        if self.unsaved < self.save_interval or time.monotonic() < self.pause_until:
            return
        self._save()
        expected = self.refreshed_seconds + self.refresh_seconds
        if self.handled < self.total and expected <= REFRESH_SHARE * self.elapsed():
            self._write(self._now())

    def end(self) -> None:
        """Write the result files; if every pair has its result, mark the journal as ended."""
        ended = self._now()
        self._write(ended)
        if not self.failed:
            self.journal.end(ended)

    def save_on_failure(self, error: BaseException) -> None:
        """Save everything that is computed, whatever ends the run early.

        A run that was asked to stop raises if it cannot save: the exit code must say so.
        """
        disk_at_fault = isinstance(error, SaveError)
        try:
            if not disk_at_fault:
                self._save()
            if not disk_at_fault or not self._files_exist():
                self._write(self._now())
        except AtpError as save_error:
            if isinstance(error, StoppedError):
                raise
            if not disk_at_fault:  # else the last line of the log reports it
                log.error(  # noqa: TRY400  (one line, no traceback)
                    "save.failed", message=save_error.message, hint=save_error.hint
                )
        reason = error.signal if isinstance(error, StoppedError) else type(error).__name__
        log.info("run.stop", reason=reason, at_once=False, done=self.handled, total=self.total)

    def _files_exist(self) -> bool:
        return all(path.exists() for path in self.paths)

    def _save(self) -> None:
        began = time.monotonic()
        saved_bytes = self.journal.save()
        self.unsaved = 0
        seconds = self._count_saving(began)
        self.pause_until = time.monotonic() + seconds / SAVE_SHARE
        log.info(
            "save.done",
            done=self.handled,
            total=self.total,
            bytes=saved_bytes,
            seconds=round(seconds, 3),
        )

    def _write(self, finished: str) -> None:
        began = time.monotonic()
        self.entries = metadata(self.scan, self.journal, finished)
        write_results(self.scan, self.journal, self.paths, self.entries)
        self.refresh_seconds = self._count_saving(began)
        self.refreshed_seconds += self.refresh_seconds
        log.info(
            "results.written",
            done=self.handled,
            total=self.total,
            seconds=round(self.refresh_seconds, 3),
        )

    def _count_saving(self, began: float) -> float:
        seconds = time.monotonic() - began
        self.saving_seconds += seconds
        return seconds

    def _now(self) -> str:
        # A clock that was set back does not end a run before its start.
        return max(now(), str(self.journal.header["started"]))
