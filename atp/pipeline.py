"""From pairs to result files: reader -> contrasts -> batches -> capture -> scores -> journal.

Everything is a function of the input and the settings; what a journal already holds is not
computed again. A fault of one pair becomes that pair's error.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import structlog

from atp.ahead import ahead
from atp.analyses import without_contrast
from atp.attribution.batches import plan
from atp.dataset import reader
from atp.dataset.journal import outcome
from atp.dataset.pairs import BrokenPair, Pair, PairKey
from atp.dataset.results import write_results
from atp.errors import ExitCode, StoppedError
from atp.log import progress
from atp.model.contrast import Contrasted
from atp.record import metadata, now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from atp.dataset.journal import Analysis, Journal
    from atp.dataset.survey import Survey
    from atp.model.contrast import Contraster
    from atp.scoring import Reading
    from atp.settings import Settings
    from atp.signals import StopRequest
    from atp.worker import Failed, Worker

    Keyed = tuple[PairKey, Contrasted]

WINDOW = 256
"""Pairs among which batches of similar length are made; bounds what is in memory."""

REFRESH_SHARE = 0.02
"""The result file is refreshed during the run as often as this share of its time allows."""

log = structlog.get_logger()


@dataclass
class Pipeline:
    """One run: what it works with, and how far it is. `finish` does the rest of it."""

    settings: Settings
    survey: Survey
    contraster: Contraster
    worker: Worker
    journal: Journal
    stop: StopRequest
    refresh_seconds: float = field(init=False)
    """What writing the result files is expected to take."""
    began: float = field(default_factory=time.monotonic)
    refreshed_seconds: float = 0.0
    unsaved: int = 0

    def __post_init__(self) -> None:
        """Guess the time of a first save: reading and writing take about as long."""
        self.refresh_seconds = 2 * self.survey.seconds

    @property
    def total(self) -> int:
        """The number of pairs the run is to do."""
        return min(self.survey.pairs, self.settings.limit or self.survey.pairs)

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
        pairs = reader.pairs(self.survey.path, self.settings.limit)
        for window in ahead(self._windows(pairs)):
            self._stop_if_asked()  # also where no pair of a window needs a batch
            contrasted: list[Keyed] = []
            for key, found in window:
                if isinstance(found, Contrasted):
                    contrasted.append((key, found))
                else:
                    self._add(key, [found], advance)
                    self._save_if_due()
            # The whole window is planned, done pairs included, so that a resumed run makes the
            # same batches as an uninterrupted one and gets the same bits.
            batches = [
                [contrasted[i] for i in indices]
                for indices in plan([item.contrast for _, item in contrasted], budget)
            ]
            todo = [b for b in batches if not all(self.journal.is_done(key) for key, _ in b)]
            # SAEs that are lent to the device go there once for the whole window.
            size = len(todo) if self.worker.dictionaries.lending else 1
            for start in range(0, len(todo), size or 1):
                self._do(todo[start : start + size], advance)
                self._stop_if_asked()
        self._stop_if_asked()  # a signal ends the windows, too

    def _windows(
        self, pairs: Iterable[Pair | BrokenPair]
    ) -> Iterator[list[tuple[PairKey, Contrasted | Analysis]]]:
        """Yield pairs with their contrast, or with the analysis that says why there is none."""
        iterator = iter(pairs)
        while window := list(islice(iterator, WINDOW)):
            found: list[tuple[PairKey, Contrasted | Analysis]] = []
            for pair in window:
                if self.stop.exit_code is not None:
                    return
                found.append((pair.key, self._contrast(pair)))
            yield found

    def _contrast(self, pair: Pair | BrokenPair) -> Contrasted | Analysis:
        if isinstance(pair, BrokenPair):
            return {"error": pair.error, "details": pair.details}
        found = self.contraster(pair.prompt, pair.target_response, pair.base_response)
        return found if isinstance(found, Contrasted) else without_contrast(found)

    def _do(self, batches: Sequence[Sequence[Keyed]], advance: Callable[[int], None]) -> None:
        began = time.monotonic()
        keyed: list[Keyed] = []
        pieces: list[Reading | Failed] = []
        for batch in batches:
            pieces += self.worker.read([item for _, item in batch])
            keyed += batch
            if self.stop.exit_code is not None:
                break  # what has been read is scored and saved
        for (key, _), of_pair in zip(keyed, self.worker.analyse(pieces), strict=True):
            self._add(key, of_pair, advance)
        self._save_if_due()  # not before the whole batch is in the journal: a save may fail
        log.info(
            "batch.done",
            done=len(self.journal),
            total=self.total,
            pairs=len(keyed),
            tokens=sum(len(item.contrast.tokens) for _, item in keyed),
            seconds=round(time.monotonic() - began, 3),
        )

    def _add(self, key: PairKey, analyses: list[Analysis], advance: Callable[[int], None]) -> None:
        """Journal a pair's analyses, unless it is done; a single one holds for every SAE."""
        if self.journal.is_done(key):
            return
        if len(analyses) < len(self.worker.dictionaries):
            analyses = analyses * len(self.worker.dictionaries)
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
        self.worker.model.release_memory()
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
