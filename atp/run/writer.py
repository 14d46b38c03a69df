"""What a run has found, brought to disk: into the journal at once, into result files at times.

Keeps the count of pairs, too: how many are done, how fast, how long the rest will take.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from atp.dataset.input_scan import check_unchanged
from atp.dataset.journal import Journal, journals, outcome
from atp.dataset.results import write_results
from atp.errors import AtpError, SaveError, StoppedError
from atp.run.metadata import metadata, now

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from atp.dataset.input_scan import InputScan
    from atp.dataset.journal import Analysis
    from atp.dataset.pairs import PairKey

REFRESH_SHARE = 0.003
"""The result files are refreshed during the run as often as this share of its time allows."""

CATCH_UP_SECONDS = 30.0
"""What a start may spend on result files that a killed run has left behind its journal."""

log = structlog.get_logger()


def result_paths(journal: Journal) -> list[Path]:
    """Return the result files of a run, one for each SAE."""
    return [journal.path.parent / name for name in journal.header["results"]]


def catch_up(folder: Path, scan: InputScan) -> None:
    """Write the result files of unfinished runs over this input that a kill has left behind.

    Before anything is loaded: should this start be stopped while it loads, they are there. Files
    that would take long are left to the run itself, journals of another user to that user.

    Raises:
        SaveError: they cannot be written, or their journal is not safe on the disk.
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
    """Say whether a file is missing or may be older than the journal: clocks are coarse."""
    saved = journal.stat().st_mtime_ns
    return any(not file.exists() or file.stat().st_mtime_ns <= saved for file in files)


@dataclass
class ResultWriter:
    """The journal and the result files of one run."""

    scan: InputScan
    journal: Journal
    n_saes: int
    save_interval: int
    done_before: int = field(init=False)
    """Pairs that needed nothing more when the run began."""
    handled: int = field(init=False)
    """Pairs that need nothing more from this run: done before, or tried by it."""
    refresh_seconds: float = field(init=False)
    """What writing the result files is expected to take."""
    began: float = field(default_factory=time.monotonic)
    saving_seconds: float = 0.0
    """What journal and result files took so far."""
    refreshed_seconds: float = 0.0
    """What of it the result files took."""
    unsaved: int = 0
    """Pairs in the journal that are not fsynced; none of other shards, which cost nothing."""
    elsewhere: int = 0
    """Pairs of other shards that this process has noted."""

    def __post_init__(self) -> None:
        """Guess the time of a first refresh: reading and writing take about as long."""
        self.refresh_seconds = 2 * self.scan.seconds
        self.done_before = self.handled = self.journal.done

    @property
    def paths(self) -> list[Path]:
        """The result files, one for each SAE."""
        return result_paths(self.journal)

    @property
    def total(self) -> int:
        """The number of pairs the run is to do."""
        return int(self.journal.header["pairs"])

    @property
    def finished(self) -> bool:
        """Whether an earlier run has done everything."""
        return self.journal.ended is not None and self._files_exist()

    @property
    def failed(self) -> int:
        """Pairs that are left with an error, or were never tried."""
        return self.total - self.journal.done

    def elapsed(self) -> float:
        """Return the seconds since the run began."""
        return time.monotonic() - self.began

    def progress(self) -> dict[str, float | None]:
        """Return what the log tells of the progress: pairs, pairs a second, seconds left.

        Pairs of other shards come in turn with this one's, so that they bring the end nearer; but
        nothing is done for them.
        """
        elapsed = max(self.elapsed(), 1e-9)
        handled = self.handled - self.done_before
        return {
            "done": self.handled,
            "total": self.total,
            "pairs_per_second": round((handled - self.elsewhere) / elapsed, 3),
            "seconds_left": round((self.total - self.handled) * elapsed / handled, 1)
            if handled
            else None,
        }

    def keep(self, analysed: Sequence[tuple[PairKey, list[Analysis]]]) -> int:
        """Journal the analyses of pairs that are not done yet; return how many these are.

        Args:
            analysed: one analysis for each SAE, or a single one that holds for all.

        Raises:
            SaveError: the journal cannot be written; none of them is in it then.
            InputError: the input was changed since it was surveyed.
        """
        new = [
            (key, analyses * (self.n_saes // len(analyses)))
            for key, analyses in analysed
            if not self.journal.is_done(key)
        ]
        if not new:
            return 0
        # Else the numbers of another text would be saved under the name of the one surveyed.
        check_unchanged(self.scan)
        began = time.monotonic()
        self.journal.add_all(new)
        self._count(began)
        for key, analyses in new:
            for analysis in {id(analysis): analysis for analysis in analyses}.values():
                if (kind := outcome(analysis)) == "error":
                    log.warning("pair.error", pair=str(key), reason=analysis[kind])
                elif kind == "skipped":
                    log.info("pair.skipped", pair=str(key), reason=analysis[kind])
        elsewhere = sum(outcome(analyses[0]) == "elsewhere" for _, analyses in new)
        self.elsewhere += elsewhere
        self.unsaved += len(new) - elsewhere
        self.handled += len(new)
        return len(new)

    def save_if_due(self) -> None:
        """Make pairs durable every save_interval of them, and refresh the result files at times."""
        if self.unsaved < self.save_interval:
            return
        self._save()
        expected = self.refreshed_seconds + self.refresh_seconds
        if self.handled < self.total and expected <= REFRESH_SHARE * self.elapsed():
            self._write(self._now())

    def end(self) -> None:
        """Write the result files, and note in the journal when nothing is left to do."""
        ended = self._now()
        self._write(ended)
        if not self.failed:
            self.journal.end(ended)

    def leave(self, error: BaseException) -> None:
        """Have on disk what is computed, whatever ends the run early.

        Raises:
            AtpError: a run that was told to stop cannot save; the exit code is to say so.
        """
        disk_at_fault = isinstance(error, SaveError)
        try:
            if not disk_at_fault:
                self._save()
            if not disk_at_fault or not self._files_exist():
                self._write(self._now())
        except AtpError as another:
            if isinstance(error, StoppedError):
                raise
            if not disk_at_fault:  # else the last line of the log says it
                log.error(  # noqa: TRY400  (one line, no traceback)
                    "save.failed", message=another.message, hint=another.hint
                )
        reason = error.signal if isinstance(error, StoppedError) else type(error).__name__
        log.info("run.stop", reason=reason, at_once=False, done=self.handled, total=self.total)

    def _files_exist(self) -> bool:
        return all(path.exists() for path in self.paths)

    def _save(self) -> None:
        began = time.monotonic()
        saved = self.journal.save()
        self.unsaved = 0
        seconds = self._count(began)
        log.info(
            "save.done", done=self.handled, total=self.total, bytes=saved, seconds=round(seconds, 3)
        )

    def _write(self, finished: str) -> None:
        began = time.monotonic()
        write_results(
            self.scan,
            self.journal,
            self.paths,
            metadata(self.scan, self.journal, finished),
        )
        self.refresh_seconds = self._count(began)
        self.refreshed_seconds += self.refresh_seconds
        log.info(
            "results.written",
            done=self.handled,
            total=self.total,
            seconds=round(self.refresh_seconds, 3),
        )

    def _count(self, began: float) -> float:
        """Count the time since `began` as spent on saving; return it."""
        seconds = time.monotonic() - began
        self.saving_seconds += seconds
        return seconds

    def _now(self) -> str:
        """Return the time; a clock that was set back does not end a run before its start."""
        return max(now(), str(self.journal.header["started"]))
