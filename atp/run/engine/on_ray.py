"""The engine of a run on a Ray cluster.

This process, the driver, reads, plans and saves as a run in one process does; the workers score.
Each of them loads model and SAEs by name, and none writes a file.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import ray
import torch

from atp.run.engine.workers import Job
from atp.run.setup import pair_tokenizer_for
from atp.run.tasks import Scored
from atp.runtime.live import phase
from atp.runtime.signals import BatchAbortedError
from atp.scoring.base_prompts import mean_activations, windows_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from atp.config.settings import Settings
    from atp.dataset.journal import Analysis
    from atp.run.engine.workers import Workers
    from atp.run.tasks import Planner, Task
    from atp.runtime.signals import StopRequest
    from atp.scoring.base_prompts import Prompt


class OnRay:
    """Scores the tasks of a run on the workers of a Ray cluster; an Engine."""

    def __init__(self, settings: Settings, workers: Workers) -> None:
        """Wait until a worker is ready; raises as `setup.load` does in the workers."""
        self.workers = workers
        with phase(f"loading {settings.model}") as line:
            line.state = self.state
            self.ready = self.workers.wait_for_first()
        self.facts, self.labels = self.ready.facts, self.ready.labels
        self.origin = self.ready.origin
        self.pair_tokenizer = pair_tokenizer_for(settings, self.ready.n_ctx)
        self._batch_tokens = self.ready.planner.batch_tokens
        self._means: Any = None  # a reference to them

    def planner(self, batch_tokens: int) -> Planner:
        """Return what plans the run's windows under a token budget."""
        self._batch_tokens = batch_tokens
        return replace(self.ready.planner, batch_tokens=batch_tokens)

    def take_means(self, prompts: Iterable[Prompt], stop: StopRequest) -> None:
        """Take the mean of each feature's activation over base prompts."""
        jobs = (
            Job("sums", window, (self._batch_tokens,), number)
            for number, window in enumerate(windows_of(prompts))
        )

        def in_order() -> Iterator[tuple[list[torch.Tensor], int]]:
            waiting: dict[int, tuple[list[torch.Tensor], int]] = {}
            turn = 0
            for job, _, sums in self.workers.work(jobs, stop):
                waiting[job.number] = ([torch.tensor(each) for each in sums], len(job.item))
                while turn in waiting:
                    yield waiting.pop(turn)
                    turn += 1
            if stop.requested:
                raise BatchAbortedError

        means = mean_activations(in_order(), self.labels)
        self._means = ray.put([mean.numpy() for mean in means])

    def results(self, tasks: Iterator[Task], stop: StopRequest) -> Iterator[Scored]:
        """Yield tasks as they are scored, in any order."""
        jobs = (Job("score", task, (self._batch_tokens, self._means)) for task in tasks)
        for job, worker, (as_json, captured) in self.workers.work(jobs, stop):
            analyses: list[list[Analysis]] = orjson.loads(as_json)
            worker.pairs += len(analyses)
            yield Scored(job.item, analyses, job.began, worker.number, captured)

    def state(self) -> str:
        """Say how many workers are ready, of how many."""
        return self.workers.state()

    def end(self) -> None:
        """Let the workers go."""
        self.workers.end()
