"""The loop of a run: read > tokenise > batch > capture > score > save.

Every result is a function of the input and the settings alone. Pairs that the journal holds are not
scored again, but they are tokenised and planned again: so a resumed run makes the same batches as
an uninterrupted one and gets the same bits. A shard plans all windows and batches, too, and records
the owning shard for the pairs of other shards.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING

import structlog

from atp.config.method import no_mean
from atp.config.settings import WINDOW_PAIRS
from atp.config.shard import WHOLE, Shard
from atp.dataset import reader
from atp.dataset.pairs import BrokenPair
from atp.errors import ExitCode, StoppedError
from atp.model.pair_tokenizer import PairIssue, TokenizedPair
from atp.runtime.log import progress
from atp.runtime.prefetch import prefetch
from atp.runtime.signals import BatchAbortedError
from atp.scoring.analysis_json import issue_analysis

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from atp.dataset.journal import Analysis
    from atp.dataset.pairs import Pair, PairKey
    from atp.model.pair_tokenizer import PairTokenizer
    from atp.run.batch_runner import BatchRunner, FailedPair
    from atp.run.writer import ResultWriter
    from atp.runtime.signals import StopRequest
    from atp.scoring.scorer import CapturedBatch

    Window = list[tuple[PairKey, TokenizedPair | Analysis]]
    """Pairs in input order, tokenised, or with the analysis that says why they are not."""

log = structlog.get_logger()


def run_pipeline(
    pair_tokenizer: PairTokenizer,
    runner: BatchRunner,
    writer: ResultWriter,
    stop: StopRequest,
    shard: Shard = WHOLE,
) -> tuple[ExitCode, list[Path]]:
    """Score the pairs that are left; return OK or PAIRS_FAILED, and the result files."""
    if not writer.finished:
        with stop.finishing():
            try:
                with progress(writer.total, writer.handled) as writer.advance:
                    if runner.method.baseline == "mean" and writer.total:
                        _take_means(pair_tokenizer, runner, writer, stop)
                    _score_pairs(pair_tokenizer, runner, writer, stop, shard)
                runner.scorer.model.release_memory()
                writer.end()
            except BaseException as error:
                writer.save_on_failure(error)
                raise
    log.info(
        "run.done",
        pairs=writer.total,
        errors=writer.failed,
        seconds=round(writer.elapsed(), 3),
        saving_seconds=round(writer.saving_seconds, 3),
        results=[str(path) for path in writer.paths],
    )
    return (ExitCode.PAIRS_FAILED if writer.failed else ExitCode.OK), writer.paths


def _score_pairs(
    pair_tokenizer: PairTokenizer,
    runner: BatchRunner,
    writer: ResultWriter,
    stop: StopRequest,
    shard: Shard,
) -> None:
    """Read > tokenise > batch > capture > score > save, a window of pairs at a time."""
    pairs = reader.pairs(writer.scan.path, writer.total)  # read
    pairs_before = batches_before = 0  # those of earlier windows
    for window in prefetch(_tokenise(pairs, pair_tokenizer, stop)):  # tokenise
        _raise_if_stopped(stop, writer)
        without_batch = [
            (key, [item if shard.does(number) else _other_shard(shard, number)])
            for number, (key, item) in enumerate(window, start=pairs_before)
            if not isinstance(item, TokenizedPair)
        ]
        writer.append(without_batch)
        writer.save_if_due()
        tokenised = [(key, item) for key, item in window if isinstance(item, TokenizedPair)]
        plan = runner.plan([pair for _, pair in tokenised])  # batch
        batches = [[tokenised[i] for i in indices] for indices in plan]
        numbered = list(enumerate(batches, start=batches_before))
        groups = [numbered] if runner.scores_whole_windows else [[batch] for batch in numbered]
        for group in groups:
            _score_batches(group, runner, writer, stop, shard)  # capture, score, save
            _raise_if_stopped(stop, writer)
        pairs_before += len(window)
        batches_before += len(batches)
    _raise_if_stopped(stop, writer)  # a signal ends the windows, too


def _tokenise(
    pairs: Iterator[Pair | BrokenPair], pair_tokenizer: PairTokenizer, stop: StopRequest
) -> Iterator[Window]:
    while raw := list(islice(pairs, WINDOW_PAIRS)):
        window: Window = []
        for pair in raw:
            if stop.requested:
                return
            if isinstance(pair, BrokenPair):
                window.append((pair.key, {"error": pair.error, "details": pair.details}))
                continue
            texts = pair.prompt, pair.target_response, pair.base_response
            item = pair_tokenizer(*texts, base_prompt=pair.base_prompt)
            window.append((pair.key, issue_analysis(item) if isinstance(item, PairIssue) else item))
        yield window


def _score_batches(
    batches: Sequence[tuple[int, Sequence[tuple[PairKey, TokenizedPair]]]],
    runner: BatchRunner,
    writer: ResultWriter,
    stop: StopRequest,
    shard: Shard,
) -> None:
    """Score and save this shard's batches among some numbered ones."""
    todo = []
    for number, batch in batches:
        if not shard.does(number):
            writer.append([(key, [_other_shard(shard, number)]) for key, _ in batch])
        elif not all(writer.journal.is_done(key) for key, _ in batch):
            todo.append(batch)
    if not todo:
        return
    began = time.monotonic()
    keyed: list[tuple[PairKey, TokenizedPair]] = []
    captured: list[CapturedBatch | FailedPair] = []
    try:
        with stop.abortable():
            for batch in todo:
                captured += runner.capture([pair for _, pair in batch])  # capture
                keyed += batch
                if stop.requested:
                    break  # the captured batches are scored and saved
            analyses = runner.score(captured)  # score
    except BatchAbortedError:
        log.info("batch.given_up", seconds=round(time.monotonic() - began, 3))
        return  # the next start computes it
    keys = [key for key, _ in keyed]
    new = writer.append(list(zip(keys, analyses, strict=True)))  # save
    writer.save_if_due()  # after all of the batch is in the journal: saving may fail
    log.info(
        "batch.done",
        **writer.progress(),
        pairs=len(keyed),
        new=new,
        tokens=sum(pair.contrast.read for _, pair in keyed),
        seconds=round(time.monotonic() - began, 3),
    )


def _other_shard(shard: Shard, number: int) -> Analysis:
    return {"elsewhere": str(shard.owner(number))}


def _take_means(
    pair_tokenizer: PairTokenizer, runner: BatchRunner, writer: ResultWriter, stop: StopRequest
) -> None:
    try:
        with stop.abortable():
            runner.scorer.take_means(_base_prompts(pair_tokenizer, writer, stop))
    except BatchAbortedError:
        _raise_if_stopped(stop, writer)


def _base_prompts(
    pair_tokenizer: PairTokenizer, writer: ResultWriter, stop: StopRequest
) -> Iterator[tuple[int, ...]]:
    count = left_out = 0
    question = None
    for pair in reader.pairs(writer.scan.path, writer.total):
        _raise_if_stopped(stop, writer)
        if pair.key.question == question or isinstance(pair, BrokenPair):
            continue
        question = pair.key.question
        prompt = pair_tokenizer.prompt(pair.base_prompt)
        if isinstance(prompt, PairIssue):
            left_out += 1
            continue
        count += 1
        yield prompt
    if not count:
        raise no_mean(writer.scan.path)
    log.info("baseline.mean", prompts=count, left_out=left_out)


def _raise_if_stopped(stop: StopRequest, writer: ResultWriter) -> None:
    if stop.exit_code is None:
        return
    msg = f"stopped by a signal after {writer.handled} of {writer.total} pairs; all are saved."
    hint = "Start the same command, without --fresh, to resume."
    raise StoppedError(stop.exit_code, msg, hint)
