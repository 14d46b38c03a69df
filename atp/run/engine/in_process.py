"""The engine of a run in one process: the model is here, and one task comes after the other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from atp.model.memory_model import batch_tokens
from atp.run.batch_runner import BatchRunner
from atp.run.metadata import facts
from atp.run.tasks import Scored
from atp.runtime.signals import BatchAbortedError
from atp.scoring.scorer import CapturedBatch, Scorer
from atp.vectors.origin import Origin
from atp.vectors.parts import portable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from atp.config.run import VectorType
    from atp.config.settings import Settings
    from atp.dataset.input_scan import InputScan
    from atp.dataset.journal import Analysis
    from atp.run.batch_runner import FailedPair
    from atp.run.setup import Loaded
    from atp.run.tasks import Planner, Task
    from atp.runtime.signals import StopRequest
    from atp.scoring.base_prompts import Prompt

log = structlog.get_logger()


class InProcess:
    """Scores the tasks of a run with a loaded model; an Engine."""

    def __init__(
        self,
        loaded: Loaded,
        settings: Settings,
        scan: InputScan,
        vector_type: VectorType | None = None,
        sharing: int = 1,
    ) -> None:
        """Take a loaded model.

        Args:
            loaded: the model and its SAEs.
            settings: of the run.
            scan: of its input.
            vector_type: of the vectors to keep.
            sharing: how many processes of the run share the memory of the device.
        """
        model, dictionaries = loaded.model, loaded.dictionaries
        budget = settings.batch_tokens or batch_tokens(model, dictionaries, settings.tail, sharing)
        self.runner = BatchRunner(
            Scorer(model, dictionaries, settings.top_k, settings.scoring, budget)
        )
        self.pair_tokenizer = loaded.pair_tokenizer
        self.labels: Sequence[str] = [each.label for each in dictionaries]
        self.facts = facts(settings, scan, model, dictionaries, budget)
        self.origin = Origin.of(model, dictionaries)
        self.vector_type = vector_type

    def planner(self, batch_tokens: int) -> Planner:
        """Return what plans the run's windows under a token budget."""
        self.runner.scorer.batch_tokens = batch_tokens
        return self.runner.planner()

    def take_means(self, prompts: Iterable[Prompt], stop: StopRequest) -> None:
        """Take the mean of each feature's activation over base prompts."""
        with stop.abortable():
            self.runner.take_means(prompts)

    def results(self, tasks: Iterator[Task], stop: StopRequest) -> Iterator[Scored]:
        """Yield tasks as they are scored, in order; raises as BatchRunner.run does."""
        for task in tasks:
            began = time.monotonic()
            try:
                with stop.abortable():
                    analyses, captured = self.score(task, lambda: stop.requested)
            except BatchAbortedError:
                log.info("batch.given_up", seconds=round(time.monotonic() - began, 3))
                return  # the next start computes it
            yield Scored(task, analyses, began, captured=captured)

    def score(
        self, task: Task, stopped: Callable[[], bool] = lambda: False
    ) -> tuple[list[list[Analysis]], list[CapturedBatch | FailedPair]]:
        """Score a task as `BatchRunner.run` does; return its captures, too, if they are kept."""
        if self.vector_type is None:
            return self.runner.run(task, stopped), []
        captured: list[CapturedBatch | FailedPair] = []
        analyses = self.runner.run(task, stopped, captured)
        kept = [
            portable(part, self.vector_type) if isinstance(part, CapturedBatch) else part
            for part in captured
        ]
        return analyses, kept

    def state(self) -> str:
        """Return an empty text: there are no workers."""
        return ""

    def end(self) -> None:
        """Return the memory that torch keeps in reserve to the device."""
        self.runner.release_memory()
