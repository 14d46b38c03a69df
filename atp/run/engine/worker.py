"""The worker of a Ray cluster: an actor that loads model and SAEs by name, and scores tasks."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import ray
import structlog
import torch

from atp.model.hub.records import go_offline_if_fetched
from atp.run import setup
from atp.run.engine.in_process import InProcess
from atp.runtime.log import configure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from atp.config.run import VectorType
    from atp.config.settings import Settings
    from atp.dataset.input_scan import InputScan
    from atp.run.batch_runner import FailedPair
    from atp.run.tasks import Planner, Task
    from atp.scoring.base_prompts import Prompt
    from atp.scoring.scorer import CapturedBatch
    from atp.vectors.origin import Origin

Event = tuple[str, dict[str, Any]]
"""A line of the log: its level, and its fields."""


@dataclass(frozen=True)
class Ready:
    """What a worker has loaded, as far as the driver must know it."""

    facts: dict[str, Any]
    labels: Sequence[str]
    origin: Origin
    n_ctx: int
    planner: Planner
    node: str  # the address of its machine
    pid: int


class Worker:
    """Scores tasks with a model of its own; every result comes with the log of its making.

    Nothing here is a checkpoint: a worker that was restarted loads again.
    """

    def __init__(
        self,
        settings: Settings,
        scan: InputScan,
        folder: str,
        vector_type: VectorType | None,
        sharing: int,
    ) -> None:
        self.settings, self.scan = settings, scan
        self.vector_type, self.sharing = vector_type, sharing
        self.engine: InProcess | None = None
        self.events: list[Event] = []
        with suppress(OSError):  # so relative names mean what they do to the driver
            os.chdir(folder)
        configure("")
        structlog.configure(processors=[self._keep])

    def load(self) -> tuple[Ready, list[Event]]:
        """Load model and SAEs, if that is not done; raises as `setup.load` does."""
        engine = self._loaded()
        runner = engine.runner
        node = ray.util.get_node_ip_address()
        n_ctx = runner.scorer.model.n_ctx
        known = engine.facts, engine.labels, engine.origin, n_ctx
        ready = Ready(*known, runner.planner(), node, os.getpid())
        return ready, self._told()

    @ray.method(max_task_retries=0)  # type: ignore[untyped-decorator]
    def score(
        self, task: Task, batch_tokens: int, means: Sequence[np.ndarray] | None
    ) -> tuple[tuple[bytes, list[CapturedBatch | FailedPair]], list[Event]]:
        """Return what InProcess.score does, the analyses as JSON: the driver reads it faster.

        Raises as BatchRunner.run does.
        """
        engine = self._loaded(batch_tokens)
        if means is not None and not engine.runner.scorer.means:
            device = engine.runner.scorer.model.device
            engine.runner.scorer.means = [torch.tensor(mean, device=device) for mean in means]
        analyses, captured = engine.score(task)
        return (orjson.dumps(analyses), captured), self._told()

    @ray.method(max_task_retries=0)  # type: ignore[untyped-decorator]
    def sums(
        self, prompts: Sequence[Prompt], batch_tokens: int
    ) -> tuple[list[np.ndarray], list[Event]]:
        """Return for each SAE the sum of its activations over some base prompts."""
        sums = self._loaded(batch_tokens).runner.scorer.sums(prompts)
        return [each.cpu().numpy() for each in sums], self._told()

    def _loaded(self, batch_tokens: int | None = None) -> InProcess:
        if self.engine is None:
            settings = self.settings
            specs = setup.check_names(settings)
            go_offline_if_fetched(settings.model, settings.revision, specs)  # on this node
            loaded = setup.load(settings, specs)
            self.engine = InProcess(
                loaded, self.settings, self.scan, self.vector_type, self.sharing
            )
        if batch_tokens is not None:
            self.engine.runner.scorer.batch_tokens = batch_tokens
        return self.engine

    def _keep(self, logger: object, level: str, event: Any) -> Any:  # noqa: ANN401  (structlog's types)
        """Keep a line of the log for the driver."""
        del logger
        self.events.append((level, dict(event)))
        raise structlog.DropEvent

    def _told(self) -> list[Event]:
        told, self.events = self.events, []
        return told
