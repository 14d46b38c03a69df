"""BatchRunner: scores tasks, batch by batch; one pair's fault costs no other pair.

A batch that fails is halved, down to the pair at fault; that pair's result is an error.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from atp.errors import UnavailableError
from atp.model.halving import in_halves
from atp.run.tasks import Planner
from atp.scoring.analysis_json import error_analysis
from atp.scoring.preflight import check_dictionaries
from atp.scoring.scorer import CapturedBatch, Scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from atp.dataset.journal import Analysis
    from atp.model.halving import Failure
    from atp.model.pair_tokenizer import TokenizedPair
    from atp.run.tasks import Task

FAILURES_IN_A_ROW = 8
"""Pairs that may fail one after the other before a probe shows whether the model still works."""

log = structlog.get_logger()


@dataclass(frozen=True)
class FailedPair:
    """A pair whose capture failed alone."""

    analyses: list[Analysis]  # the error, for each SAE


class BatchRunner:
    """Runs batches of tokenised pairs through a scorer."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.method = scorer.method
        self.check: Callable[[], None] = partial(
            check_dictionaries, scorer.model, scorer.dictionaries, scorer.method
        )
        """Raises if the model and the SAEs do not work together, or do no longer."""
        self.n_saes = len(scorer.dictionaries)
        self._failures_in_a_row: Counter[str] = Counter()
        """Of captures and of scoring: either may be lost while the other works."""

    def take_means(self, prompts: Iterable[tuple[int, ...]]) -> None:
        """Take the mean of each feature's activation over base prompts."""
        self.scorer.take_means(prompts)

    def release_memory(self) -> None:
        """Return the memory that torch keeps in reserve to the device."""
        self.scorer.model.release_memory()

    def planner(self) -> Planner:
        """Return what plans windows of pairs for this runner."""
        # With offloaded SAEs, a whole window is captured before it is scored, so that each SAE is
        # copied to the device once; but resumable captures would occupy too much memory.
        together = self.scorer.dictionaries.offloaded and not self.scorer.resumable
        whole = not self.scorer.model.keeps_all_keys
        return Planner(self.method.position, self.scorer.batch_tokens, whole, together)

    def run(
        self,
        task: Task,
        stopped: Callable[[], bool] = lambda: False,
        captured: list[CapturedBatch | FailedPair] | None = None,
    ) -> list[list[Analysis]]:
        """Capture and score a task's batches; raises as `capture` does.

        Returned is, for each pair, one analysis for each SAE. Once `stopped` says so, no further
        batch is captured, and the analyses are those of the first pairs. The list `captured` takes
        what was captured.
        """
        self.scorer.base_prompts.expect(task.window, task.base_batches)
        captured = [] if captured is None else captured
        for batch in task.batches:
            captured += self.capture(batch)
            if stopped():
                break
        return self.score(captured)

    def capture(self, pairs: Sequence[TokenizedPair]) -> list[CapturedBatch | FailedPair]:
        """Run the model over a batch; return it captured, or its captured parts and failed pairs.

        If pair after pair fails, and a probe, too, UnavailableError says that the model is lost.
        """

        def work(pairs: Sequence[TokenizedPair]) -> list[CapturedBatch | FailedPair]:
            captured = self.scorer.capture(pairs)
            self._failures_in_a_row["capture"] = 0
            return [captured]

        def failed(failure: Failure, pairs: Sequence[TokenizedPair]) -> FailedPair:
            return FailedPair(self._error_analyses("capture", failure, pairs))

        return in_halves(self.scorer.model, work, pairs, failed, before_retry=_log_retry)

    def score(self, parts: Sequence[CapturedBatch | FailedPair]) -> list[list[Analysis]]:
        """Return, for each pair in order, one analysis for each SAE; raises as `capture` does."""
        captured = [part for part in parts if isinstance(part, CapturedBatch)]
        if len(captured) == len(parts):
            return self._analyse(captured)
        analyses: list[list[Analysis]] = []
        for part in parts:
            if isinstance(part, CapturedBatch):
                analyses += self._analyse([part])
            else:
                analyses.append(part.analyses)
        return analyses

    def _analyse(self, batches: list[CapturedBatch]) -> list[list[Analysis]]:
        def work(batches: Sequence[CapturedBatch]) -> list[list[Analysis]]:
            analyses = self.scorer.analyse(batches)
            self._failures_in_a_row["analyse"] = 0
            return analyses

        def failed(failure: Failure, batches: Sequence[CapturedBatch]) -> list[Analysis]:
            return self._error_analyses("analyse", failure, batches[0].pairs)

        def split(batches: Sequence[CapturedBatch]) -> list[list[CapturedBatch]]:
            if len(batches) > 1:
                return [[batch] for batch in batches]
            whole = batches[0]
            return [[half] for half in whole.halves()] if len(whole.pairs) > 1 else []

        def log_retry(failure: Failure, batches: Sequence[CapturedBatch]) -> None:
            _log_retry(failure, [pair for batch in batches for pair in batch.pairs])

        return in_halves(
            self.scorer.model, work, batches, failed, before_retry=log_retry, split=split
        )

    def _error_analyses(
        self, step: str, failure: Failure, pairs: Sequence[TokenizedPair]
    ) -> list[Analysis]:
        analysis = pair_error(failure, pairs)
        if not failure.out_of_memory:  # a pair that is too long is its own fault, not the model's
            self._failures_in_a_row[step] += 1
        if self._failures_in_a_row[step] >= FAILURES_IN_A_ROW:
            self._probe(analysis)
            self._failures_in_a_row[step] = 0
        return [analysis] * self.n_saes

    def _probe(self, last: Analysis) -> None:
        """Tell pairs that are each at fault from a model or a device that is lost."""
        try:
            self.check()
        except Exception as error:
            msg = (
                f"{FAILURES_IN_A_ROW} pairs in a row failed, and a probe, too; the last with "
                f"{last['error']}: {last['details']['message']}"
            )
            hint = "Results so far are saved; mend the cause and start the same command."
            raise UnavailableError(msg, hint) from error
        log.warning("model.probed", pairs=FAILURES_IN_A_ROW, error=last["error"])


def pair_error(failure: Failure, pairs: Sequence[TokenizedPair]) -> Analysis:
    """Return the analysis of a pair that failed alone."""
    analysis = error_analysis(failure.error)
    if not failure.out_of_memory:
        return analysis
    details = {**analysis["details"], "tokens": _tokens(pairs), **failure.memory}
    return {"error": "OOM", "details": details}


def _log_retry(failure: Failure, pairs: Sequence[TokenizedPair]) -> None:
    """Log that the parts of a batch are tried; the library's message stays in the result."""
    if failure.out_of_memory:
        log.warning(
            "oom.retry", pairs=len(pairs), error="OOM", tokens=_tokens(pairs), **failure.memory
        )
    else:
        log.warning("batch.retry", pairs=len(pairs), error=type(failure.error).__name__)


def _tokens(pairs: Sequence[TokenizedPair]) -> int:
    return sum(pair.contrast.read for pair in pairs)
