"""The loop of a run: read > tokenise > plan > score > save.

Every result is a function of the input and the settings alone. Pairs that the journal holds are not
scored again, but they are tokenised and planned again: so a resumed run makes the same batches as
an uninterrupted one and gets the same bits. A shard plans all windows and batches, too, and records
the owning shard for the pairs of other shards. Who scores the tasks, in whatever order, is the
engine's matter (atp/run/engine).
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import structlog

from atp.config.method import no_mean
from atp.config.settings import WINDOW_PAIRS
from atp.config.shard import WHOLE, Shard
from atp.dataset import reader
from atp.dataset.pairs import BrokenPair, Pair
from atp.errors import ExitCode, StoppedError
from atp.model.pair_tokenizer import PairIssue, PairTexts, TokenizedPair
from atp.run.watch import Explained, StrongestSoFar
from atp.runtime.live import phase
from atp.runtime.prefetch import prefetch
from atp.runtime.signals import BatchAbortedError
from atp.scoring.analysis_json import issue_analysis
from atp.scoring.scorer import CapturedBatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from atp.config.method import Baseline
    from atp.dataset.journal import Analysis
    from atp.dataset.pairs import PairKey
    from atp.run.tasks import Engine, Planner, Scored, Task
    from atp.run.writer import ResultWriter
    from atp.runtime.live import LiveLine
    from atp.runtime.signals import StopRequest
    from atp.vectors.writer import VectorsWriter

    Window = list[tuple[PairKey, TokenizedPair | Analysis]]
    """Pairs in input order, tokenised, or with the analysis that says why they are not."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Pipeline:
    """Scores the pairs that are left of one run."""

    engine: Engine
    planner: Planner
    writer: ResultWriter
    stop: StopRequest
    baseline: Baseline = "zero"
    shard: Shard = WHOLE
    vectors: VectorsWriter | None = None
    """Keeps the captures, too."""

    def run(self) -> tuple[ExitCode, list[Path]]:
        """Score the pairs that are left; return OK or PAIRS_FAILED, and the result files."""
        if not self._finished:
            with self.stop.finishing():
                try:
                    if self.baseline == "mean" and self.writer.total:
                        with phase("reading base prompts"):
                            self._take_means()
                    total, handled = self.writer.total, self.writer.handled
                    with phase("scoring", total, handled, "pairs") as line:
                        self.writer.advance, line.state = line.advance, self.engine.state
                        self._score_pairs(line)
                    self.engine.end()
                    with phase("writing the results"):
                        self.writer.end()
                    self._warn_of_gaps()
                except BaseException as error:
                    self.writer.save_on_failure(error)
                    raise
        log.info(
            "run.done",
            pairs=self.writer.total,
            errors=self.writer.failed,
            seconds=round(self.writer.elapsed(), 3),
            saving_seconds=round(self.writer.saving_seconds, 3),
            results=[str(path) for path in self.writer.paths],
        )
        return (ExitCode.PAIRS_FAILED if self.writer.failed else ExitCode.OK), self.writer.paths

    @property
    def _finished(self) -> bool:
        kept = self.vectors is None or self.vectors.holds(self.writer.total)
        return self.writer.finished and kept

    def _is_done(self, key: PairKey) -> bool:
        kept = self.vectors is None or self.vectors.has(key)
        return self.writer.is_done(key) and kept

    def _warn_of_gaps(self) -> None:
        for entry in self.writer.entries:
            if not entry.get("path", {}).get("complete", True):
                log.warning(
                    "path.incomplete",
                    sae=entry["sae"]["spec"],
                    median_gap=entry["path"]["median_gap"],
                    hint="The scores do not add up to the change: raise --ig-steps.",
                )

    def _score_pairs(self, line: LiveLine) -> None:
        strongest, explained = StrongestSoFar(line), Explained(self.engine.facts["saes"])
        with self.vectors or nullcontext():
            for done in self.engine.results(self._tasks(), self.stop):
                self._save(done)
                strongest.add(of_first_sae for of_first_sae, *_ in done.analyses)
                explained.add(done.analyses)
            self._raise_if_stopped()  # an engine ends soon after a signal, with what it has
        explained.end()

    def _tasks(self) -> Iterator[Task]:
        """Yield what is left to score, a window of pairs at a time; save what needs no model."""
        pairs = reader.pairs(self.writer.scan.path, self.writer.total)  # read
        pairs_before = batches_before = 0  # those of earlier windows
        for window in prefetch(self._tokenise(pairs)):  # tokenise
            without_batch = [
                (key, [item if self.shard.does(number) else self._other_shard(number)])
                for number, (key, item) in enumerate(window, start=pairs_before)
                if not isinstance(item, TokenizedPair)
            ]
            self._append(without_batch)
            self.writer.save_if_due()
            tokenised = [(key, item) for key, item in window if isinstance(item, TokenizedPair)]
            keys = [key for key, _ in tokenised]
            planned = self.planner.plan([pair for _, pair in tokenised])  # plan
            todo = []
            for number, batch in enumerate(planned.batches, start=batches_before):
                if not self.shard.does(number):
                    self._append([(keys[i], [self._other_shard(number)]) for i in batch])
                elif not all(self._is_done(keys[i]) for i in batch):
                    todo.append(batch)
            for batches in self.planner.grouped(todo):
                if self.stop.requested:
                    return
                yield planned.task(batches, keys)
            pairs_before += len(window)
            batches_before += len(planned.batches)

    def _tokenise(self, pairs: Iterator[Pair | BrokenPair]) -> Iterator[Window]:
        while raw := list(islice(pairs, WINDOW_PAIRS)):
            window: Window = []
            tokenised = self.engine.pair_tokenizer.each(
                PairTexts(pair.prompt, pair.target_response, pair.base_response, pair.base_prompt)
                for pair in raw
                if isinstance(pair, Pair)
            )
            for pair in raw:
                if self.stop.requested:
                    return
                if isinstance(pair, BrokenPair):
                    window.append((pair.key, {"error": pair.error, "details": pair.details}))
                    continue
                item = next(tokenised)
                result = issue_analysis(item) if isinstance(item, PairIssue) else item
                window.append((pair.key, result))
            yield window

    def _append(self, without_batch: list[tuple[PairKey, list[Analysis]]]) -> None:
        self.writer.append(without_batch)
        if self.vectors is not None:
            self.vectors.add_analyses((key, analysis) for key, (analysis,) in without_batch)

    def _save(self, done: Scored) -> None:
        pairs = done.task.pairs[: len(done.analyses)]  # after a signal, the first ones
        new = self.writer.append(list(zip(done.task.keys, done.analyses, strict=False)))
        if self.vectors is not None:
            self._keep(self.vectors, done)
        self.writer.save_if_due()  # after all of the batch is in the journal: saving may fail
        log.info(
            "batch.done",
            **self.writer.progress(),
            pairs=len(pairs),
            new=new,
            tokens=sum(pair.contrast.read for pair in pairs),
            seconds=round(done.seconds(), 3),
            **({} if done.worker is None else {"worker": done.worker}),
        )

    @staticmethod
    def _keep(vectors: VectorsWriter, done: Scored) -> None:
        keys = iter(done.task.keys)
        for part in done.captured:
            if isinstance(part, CapturedBatch):
                vectors.add(list(islice(keys, len(part.pairs))), part)
            else:
                vectors.add_analyses([(next(keys), part.analyses[0])])

    def _other_shard(self, number: int) -> Analysis:
        return {"elsewhere": str(self.shard.owner(number))}

    def _take_means(self) -> None:
        try:
            self.engine.take_means(self._base_prompts(), self.stop)
        except BatchAbortedError:
            self._raise_if_stopped()

    def _base_prompts(self) -> Iterator[tuple[int, ...]]:
        count = left_out = 0
        question = None
        for pair in reader.pairs(self.writer.scan.path, self.writer.total):
            self._raise_if_stopped()
            if pair.key.question == question or isinstance(pair, BrokenPair):
                continue
            question = pair.key.question
            prompt = self.engine.pair_tokenizer.prompt(pair.base_prompt)
            if isinstance(prompt, PairIssue):
                left_out += 1
                continue
            count += 1
            yield prompt
        if not count:
            raise no_mean(self.writer.scan.path)
        log.info("baseline.mean", prompts=count, left_out=left_out)

    def _raise_if_stopped(self) -> None:
        if self.stop.exit_code is None:
            return
        done = f"{self.writer.handled} of {self.writer.total} pairs"
        msg = f"stopped by a signal after {done}; all are saved."
        hint = "Start the same command, without --fresh, to resume."
        raise StoppedError(self.stop.exit_code, msg, hint)
