"""From pairs to saved analyses: reader -> contrasts -> batches -> capture -> scores -> saver.

Everything is a function of the input and the settings; what a journal already holds is not
computed again. A fault of one pair becomes that pair's error. A shard goes through the same windows
and batches as a whole run, and notes of those that are not its own where they are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import structlog

from atp.attribution.batches import plan
from atp.config.method import no_mean
from atp.config.shard import WHOLE, Shard
from atp.dataset import reader
from atp.dataset.pairs import BrokenPair, Pair, PairKey
from atp.errors import ExitCode, StoppedError
from atp.model.pair_tokenizer import PairIssue, TokenizedPair
from atp.runtime.log import progress
from atp.runtime.prefetch import ahead
from atp.runtime.signals import BatchAbortedError
from atp.scoring.analysis_json import issue_analysis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from atp.dataset.journal import Analysis
    from atp.model.pair_tokenizer import PairTokenizer
    from atp.run.batch_runner import Failed, Worker
    from atp.run.writer import ResultWriter
    from atp.runtime.signals import StopRequest
    from atp.scoring.scorer import Reading

    Keyed = tuple[PairKey, TokenizedPair]

WINDOW = 256
"""Pairs among which batches of similar length are made; bounds what is in memory."""

log = structlog.get_logger()


@dataclass
class Pipeline:
    """One run: what it works with. `finish` does what is left of it."""

    pair_tokenizer: PairTokenizer
    worker: Worker
    saver: ResultWriter
    stop: StopRequest
    shard: Shard = WHOLE

    def finish(self) -> tuple[ExitCode, list[Path]]:
        """Do the pairs that are left and write the result files."""
        saver = self.saver
        if not saver.finished:
            with self.stop.finishing():
                try:
                    with progress(saver.total, saver.handled) as advance:
                        self._score(advance)
                    self.worker.model.release_memory()
                    saver.end()
                except BaseException as error:
                    saver.leave(error)
                    raise
        log.info(
            "run.done",
            pairs=saver.total,
            errors=saver.failed,
            seconds=round(saver.elapsed(), 3),
            saving_seconds=round(saver.saving_seconds, 3),
            results=[str(path) for path in saver.paths],
        )
        return (ExitCode.PAIRS_FAILED if saver.failed else ExitCode.OK), saver.paths

    def _score(self, advance: Callable[[int], None]) -> None:
        saver, scorer = self.saver, self.worker.scorer
        if scorer.method.baseline == "mean" and saver.total:
            self._take_means()
        pairs = reader.pairs(saver.scan.path, saver.total)
        read = planned = 0  # pairs and batches of the windows before
        for window in ahead(self._windows(pairs)):
            self._stop_if_asked()  # also where no pair of a window needs a batch
            contrasted = [(key, found) for key, found in window if isinstance(found, TokenizedPair)]
            others = [
                (key, [found if self.shard.does(number) else self._elsewhere(number)])
                for number, (key, found) in enumerate(window, start=read)
                if not isinstance(found, TokenizedPair)
            ]
            read += len(window)
            advance(saver.keep(others))
            saver.save_if_due()
            # The whole window is planned, done pairs included, so that a resumed run makes the
            # same batches as an uninterrupted one and gets the same bits.
            batches = [
                [contrasted[i] for i in indices]
                for indices in plan(
                    [item.contrast for _, item in contrasted],
                    scorer.batch_tokens,
                    scorer.method.position,
                )
            ]
            scorer.base_prompts.plan(
                item.base_prompt for _, item in contrasted if item.base_prompt is not None
            )
            # A turn of all shards at a time, so that progress is even; but SAEs that are lent to
            # the device go there once for the whole window, unless every batch has a long trail.
            whole = self.worker.dictionaries.offloaded and not scorer.method.traces
            size = len(batches) if whole else self.shard.count
            for start in range(0, len(batches), size or 1):
                self._take_turn(batches[start : start + size], planned + start, advance)
            planned += len(batches)
        self._stop_if_asked()  # a signal ends the windows, too

    def _take_turn(
        self, batches: Sequence[Sequence[Keyed]], first: int, advance: Callable[[int], None]
    ) -> None:
        """Do this shard's part of some batches, of which the first has the running number `first`.

        Of the others it is noted where they are.
        """
        numbered = list(enumerate(batches, start=first))
        elsewhere = [
            (key, [self._elsewhere(number)])
            for number, batch in numbered
            if not self.shard.does(number)
            for key, _ in batch
        ]
        advance(self.saver.keep(elsewhere))
        is_done = self.saver.journal.is_done
        mine = [batch for number, batch in numbered if self.shard.does(number)]
        todo = [batch for batch in mine if not all(is_done(key) for key, _ in batch)]
        if todo:
            self._do(todo, advance)
        self._stop_if_asked()

    def _elsewhere(self, number: int) -> Analysis:
        return {"elsewhere": str(self.shard.owner(number))}

    def _windows(
        self, pairs: Iterable[Pair | BrokenPair]
    ) -> Iterator[list[tuple[PairKey, TokenizedPair | Analysis]]]:
        """Yield pairs with their contrast, or with the analysis that says why there is none."""
        iterator = iter(pairs)
        while window := list(islice(iterator, WINDOW)):
            found: list[tuple[PairKey, TokenizedPair | Analysis]] = []
            for pair in window:
                if self.stop.exit_code is not None:
                    return
                found.append((pair.key, self._contrast(pair)))
            yield found

    def _contrast(self, pair: Pair | BrokenPair) -> TokenizedPair | Analysis:
        if isinstance(pair, BrokenPair):
            return {"error": pair.error, "details": pair.details}
        found = self.pair_tokenizer(pair.prompt, pair.target_response, pair.base_response)
        if self.worker.scorer.method.reads_base_prompts:
            found = self.pair_tokenizer.with_base_prompt(found, pair.base_prompt)
        return found if isinstance(found, TokenizedPair) else issue_analysis(found)

    def _take_means(self) -> None:
        try:
            with self.stop.abortable():
                self.worker.scorer.take_means(self._base_prompts())
        except BatchAbortedError:
            self._stop_if_asked()

    def _base_prompts(self) -> Iterator[tuple[int, ...]]:
        """Yield the base prompt of every question that has a pair; log how many there were."""
        read = left_out = 0
        question = None
        for pair in reader.pairs(self.saver.scan.path, self.saver.total):
            self._stop_if_asked()
            if pair.key.question == question or isinstance(pair, BrokenPair):
                continue
            question = pair.key.question
            found = self.pair_tokenizer.prompt(pair.base_prompt)
            if isinstance(found, PairIssue):
                left_out += 1
                continue
            read += 1
            yield found
        if not read:
            raise no_mean(self.saver.scan.path)
        log.info("baseline.mean", prompts=read, left_out=left_out)

    def _do(self, batches: Sequence[Sequence[Keyed]], advance: Callable[[int], None]) -> None:
        began = time.monotonic()
        keyed: list[Keyed] = []
        pieces: list[Reading | Failed] = []
        try:
            with self.stop.abortable():
                for batch in batches:
                    pieces += self.worker.read([item for _, item in batch])
                    keyed += batch
                    if self.stop.exit_code is not None:
                        break  # what has been read is scored and saved
                analyses = self.worker.analyse(pieces)
        except BatchAbortedError:
            log.info("batch.given_up", seconds=round(time.monotonic() - began, 3))
            return  # the next start computes it
        # The whole batch goes into the journal before it is saved: a save may fail.
        keys = [key for key, _ in keyed]
        new = self.saver.keep(list(zip(keys, analyses, strict=True)))
        advance(new)
        self.saver.save_if_due()
        log.info(
            "batch.done",
            **self.saver.progress(),
            pairs=len(keyed),
            new=new,
            tokens=sum(item.contrast.read for _, item in keyed),
            seconds=round(time.monotonic() - began, 3),
        )

    def _stop_if_asked(self) -> None:
        if self.stop.exit_code is None:
            return
        done, total = self.saver.handled, self.saver.total
        msg = f"stopped by a signal after {done} of {total} pairs; all are saved."
        hint = "Start the same command, without --fresh, to go on."
        raise StoppedError(self.stop.exit_code, msg, hint)
