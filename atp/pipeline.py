"""From pairs to result files: reader -> contrasts -> batches -> capture -> scores -> journal.

Everything is a function of the input and the settings; what a journal already holds is not
computed again. A fault of one pair becomes that pair's error.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import structlog

from atp.attribution.batches import plan
from atp.dataset import reader
from atp.dataset.journal import outcome
from atp.dataset.pairs import BrokenPair, Pair, PairKey
from atp.dataset.results import write_results
from atp.errors import ExitCode, StoppedError, UnavailableError
from atp.log import progress
from atp.model.contrast import Contrasted
from atp.model.loading import is_out_of_memory
from atp.record import metadata, now
from atp.scoring import analyse, without_contrast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from atp.dataset.journal import Analysis, Journal
    from atp.dataset.survey import Survey
    from atp.model.contrast import Contraster
    from atp.model.dictionaries import Dictionary
    from atp.model.loading import Model
    from atp.settings import Settings
    from atp.signals import StopRequest

WINDOW = 256
"""Pairs among which batches of similar length are made; bounds what is in memory."""

REFRESH_SHARE = 0.02
"""The result file is refreshed during the run as often as this share of its time allows."""

FAILURES_IN_A_ROW = 8
"""Pairs that may fail one after the other before the run ends itself."""

log = structlog.get_logger()


@dataclass
class Pipeline:
    """One run: what it works with, and how far it is. `finish` does the rest of it."""

    settings: Settings
    survey: Survey
    model: Model
    dictionaries: list[Dictionary]
    contraster: Contraster
    journal: Journal
    total: int
    stop: StopRequest
    refresh_seconds: float
    """What writing the result files is expected to take."""
    began: float = field(default_factory=time.monotonic)
    refreshed_seconds: float = 0.0
    unsaved: int = 0
    failures_in_a_row: int = 0

    def finish(self) -> tuple[ExitCode, list[Path]]:
        """Do the pairs that are left and write the result files."""
        paths = self._paths()
        ended = self.journal.ended
        if ended is None or not all(path.exists() for path in paths):
            done_before = self.journal.done
            with progress(self.total, done_before) as advance:
                self._score(advance)
            ended = now()
            self._write(ended)
            if self.journal.done == self.total:
                self.journal.end(ended)
        failed = self.total - self.journal.done
        log.info(
            "run.done",
            pairs=self.total,
            errors=failed,
            seconds=round(time.monotonic() - self.began, 1),
            results=[str(path) for path in paths],
        )
        return (ExitCode.PAIRS_FAILED if failed else ExitCode.OK), paths

    def _paths(self) -> list[Path]:
        return [self.settings.out / name for name in self.journal.header["results"]]

    def _score(self, advance: Callable[[int], None]) -> None:
        self._stop_if_asked()  # a signal may have come while the model was loading

        budget = self.journal.header["facts"]["settings"]["batch_tokens"]
        for window in _windows(reader.pairs(self.survey.path, self.settings.limit), WINDOW):
            self._stop_if_asked()  # also where no pair of a window needs a batch
            contrasted: list[tuple[PairKey, Contrasted]] = []
            for pair in window:
                if isinstance(pair, BrokenPair):
                    self._add(pair.key, [{"error": pair.error, "details": pair.details}], advance)
                    continue
                found = self.contraster(pair.prompt, pair.target_response, pair.base_response)
                if isinstance(found, Contrasted):
                    contrasted.append((pair.key, found))
                else:
                    self._add(pair.key, [without_contrast(found)], advance)
                self._save_if_due()
            # The whole window is planned, done pairs included, so that a resumed run makes the
            # same batches as an uninterrupted one and gets the same bits.
            for indices in plan([item.contrast for _, item in contrasted], budget):
                batch = [contrasted[i] for i in indices]
                if not all(self.journal.is_done(key) for key, _ in batch):
                    self._do_batch(batch, advance)
                self._stop_if_asked()

    def _do_batch(
        self, batch: list[tuple[PairKey, Contrasted]], advance: Callable[[int], None]
    ) -> None:
        began = time.monotonic()
        analyses = self._analyse([item for _, item in batch])
        for (key, _), of_pair in zip(batch, analyses, strict=True):
            self._add(key, of_pair, advance)
        self._save_if_due()  # not before the whole batch is in the journal: a save may fail
        log.info(
            "batch.done",
            done=len(self.journal),
            total=self.total,
            pairs=len(batch),
            tokens=sum(len(item.contrast.tokens) for _, item in batch),
            seconds=round(time.monotonic() - began, 3),
        )

    def _analyse(self, batch: list[Contrasted]) -> list[list[Analysis]]:
        """Run a batch; when it fails, halve it, so that one pair never costs another its result."""
        try:
            analyses = analyse(self.model, self.dictionaries, batch, self.settings.top_k)
            self.failures_in_a_row = 0
            return analyses  # noqa: TRY300  (an else would stand behind the except)
        except Exception as error:  # noqa: BLE001  (a pair's fault becomes that pair's error)
            failure = _explain(error)
        # Outside the except block: the traceback would keep the failed batch's tensors alive.
        self.model.free_memory()
        if len(batch) == 1:
            self._count_failure(failure)
            return [[failure] * len(self.dictionaries)]
        log.warning("batch.retry", pairs=len(batch), **failure)
        half = len(batch) // 2
        return self._analyse(batch[:half]) + self._analyse(batch[half:])

    def _count_failure(self, failure: Analysis) -> None:
        """End the run when it is not a pair's fault: a lost device fails every pair alike."""
        self.failures_in_a_row += failure["error"] != "OOM"
        if self.failures_in_a_row >= FAILURES_IN_A_ROW:
            last = f"{failure['error']}: {failure['details']['message']}"
            msg = f"{FAILURES_IN_A_ROW} pairs in a row failed, the last with {last}"
            hint = "Results so far are saved; mend the cause and start the same command."
            raise UnavailableError(msg, hint)

    def _add(self, key: PairKey, analyses: list[Analysis], advance: Callable[[int], None]) -> None:
        """Journal a pair's analyses, unless it is done; a single one holds for every SAE."""
        if self.journal.is_done(key):
            return
        if len(analyses) < len(self.dictionaries):
            analyses = analyses * len(self.dictionaries)
        for analysis in {id(analysis): analysis for analysis in analyses}.values():
            if (kind := outcome(analysis)) != "scored":
                level = log.warning if kind == "error" else log.info
                level(f"pair.{kind}", pair=str(key), reason=analysis[kind])
        self.journal.add(key, analyses)
        advance(1)
        self.unsaved += 1

    def _save_if_due(self) -> None:
        """Make results durable every save_interval pairs, and refresh the result files at times."""
        if self.unsaved < self.settings.save_interval:
            return
        self.journal.save()
        self.unsaved = 0
        elapsed = time.monotonic() - self.began
        if self.refreshed_seconds + self.refresh_seconds <= REFRESH_SHARE * elapsed:
            self._write(now())

    def _write(self, finished: str) -> None:

        began = time.monotonic()
        entries = metadata(self.settings, self.survey, self.journal, self.total, finished)
        write_results(self.survey, self.journal, self._paths(), entries)
        self.refresh_seconds = time.monotonic() - began
        self.refreshed_seconds += self.refresh_seconds
        log.info("save.done", done=len(self.journal), seconds=round(self.refresh_seconds, 3))

    def _stop_if_asked(self) -> None:
        if self.stop.exit_code is None:
            return
        self.journal.save()
        self._write(now())
        log.info("run.stop", done=len(self.journal), total=self.total)
        msg = f"stopped by a signal after {len(self.journal)} of {self.total} pairs; all are saved."
        raise StoppedError(self.stop.exit_code, msg, "Start the same command to go on.")


def _windows(pairs: Iterable[Pair | BrokenPair], size: int) -> Iterator[list[Pair | BrokenPair]]:
    iterator = iter(pairs)
    while window := list(islice(iterator, size)):
        yield window


def _explain(error: Exception) -> Analysis:
    """Return the analysis of a pair whose batch failed."""
    kind = "OOM" if is_out_of_memory(error) else type(error).__name__
    details: dict[str, Any] = {"message": str(error).splitlines()[0] if str(error) else ""}
    return {"error": kind, "details": details}
