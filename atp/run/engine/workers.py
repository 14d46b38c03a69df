"""The workers of a Ray cluster, as the driver sees them: it hands them jobs and takes the results.

Ray places the workers, restarts those that die, and moves the data. What it cannot know is which
pair a worker died of. So a job whose worker died goes to another worker; the second time, each of
its pairs is tried alone; and a pair that a third worker dies of becomes an error.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson
import ray
import structlog
from ray.exceptions import RayError, RayTaskError

from atp.errors import AtpError, UnavailableError
from atp.run.batch_runner import FailedPair
from atp.run.engine.cluster import answers
from atp.run.engine.worker import Ready, Worker
from atp.run.metadata import program
from atp.runtime.signals import GRACE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from atp.config.run import VectorType
    from atp.config.settings import Settings
    from atp.dataset.input_scan import InputScan
    from atp.run.engine.cluster import Places
    from atp.run.engine.worker import Event
    from atp.runtime.signals import StopRequest

    Done = tuple["Job", "_Worker", Any]
    """A job, the worker that did it, and its result."""

QUEUED = 2
"""Jobs that a worker has at a time: one in work, and one that it can begin at once."""
TRIES = 3
"""Workers that may die of a pair."""
LOSSES = 10
"""Deaths of a worker without a result between them until it is given up; the last one of each
deadly pair does not count."""
POLL_SECONDS = 0.2  # how soon a signal is seen
STATE_SECONDS = 60.0  # between two lines of the log on the state of the workers
PROBE_SECONDS = 5.0  # between two looks at the head of the cluster
HEAD_SECONDS = 25.0
"""How long the head may not answer. After a minute Ray would end this process with exit code 1."""

log = structlog.get_logger()


@dataclass
class Job:
    """A call of a worker."""

    method: Literal["score", "sums"]
    item: Any  # a task, or base prompts
    arguments: tuple[Any, ...]  # after the item
    number: int = 0
    losses: int = 0  # workers that died of it
    began: float = 0.0


@dataclass
class _Worker:
    """A worker as the driver sees it."""

    number: int
    actor: Any
    state: Literal["loading", "ready", "gone"] = "loading"
    node: str = ""
    jobs: dict[Any, Job] = field(default_factory=dict)  # by the reference to the result
    losses: int = 0  # since its last result
    pairs: int = 0
    began: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return its state for the log."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        rate = round(self.pairs / seconds, 3) if self.state == "ready" else 0.0
        told = {"worker": self.number, "node": self.node, "state": self.state}
        return {**told, "pairs": self.pairs, "pairs_per_second": rate}


class Workers:
    """The workers of a run."""

    def __init__(
        self,
        settings: Settings,
        scan: InputScan,
        places: Places,
        vector_type: VectorType | None = None,
    ) -> None:
        self.first: Ready | None = None
        """What the first worker has loaded; the others must have the same."""
        # Retries are those of `load`, which waits for a worker that is being restarted.
        actor = ray.remote(Worker).options(
            num_cpus=places.cpus, num_gpus=places.gpus, max_restarts=-1, max_task_retries=TRIES - 1
        )
        theirs = replace(settings, device=places.device)
        if places.gpus > 1:
            theirs = replace(settings, device=None, device_map="auto")
        folder = str(Path.cwd())
        self.all = [
            _Worker(number, actor.remote(theirs, scan, folder, vector_type, places.sharing))
            for number in range(places.workers)
        ]
        self.loading = {worker.actor.load.remote(): worker for worker in self.all}
        self.state_told = self.head_probed = time.monotonic()
        self.head = ray.get_runtime_context().gcs_address
        self.silent_since: float | None = None
        """When the head was first found not to answer."""

    def wait_for_first(self) -> Ready:
        """Wait until a worker is ready; AtpError says why none is."""
        while self.first is None:
            self._take_loaded(self._finished(self.loading))
            self._watch()
        return self.first

    def state(self) -> str:
        """Say for the live line how many workers are ready."""
        ready = sum(worker.state == "ready" for worker in self.all)
        return f"{ready} of {len(self.all)} workers"

    def end(self) -> None:
        """Let the workers go."""
        for worker in self.all:
            ray.kill(worker.actor)
            worker.state = "gone"
        self.loading = {}

    def work(self, jobs: Iterator[Job], stop: StopRequest) -> Iterator[Done]:
        """Yield jobs with their workers and results; jobs are taken when a worker is free."""
        again: deque[Job] = deque()  # their workers died
        more = True
        deadline = None
        while True:
            while (more or again) and not stop.requested and (worker := self._free()):
                job = again.popleft() if again else next(jobs, None)
                if job is None:
                    more = False
                    break
                self._hand(worker, job)
            running = {ref: worker for worker in self.all for ref in worker.jobs}
            if stop.requested:
                deadline = deadline or time.monotonic() + GRACE_SECONDS
            if not running and (stop.requested or not (more or again)):
                return
            if deadline and time.monotonic() > deadline:
                oldest = min(job.began for worker in self.all for job in worker.jobs.values())
                log.info("batch.given_up", seconds=round(time.monotonic() - oldest, 3))
                return  # the next start computes them
            for ref in self._finished({**running, **self.loading}):
                if ref in self.loading:
                    self._take_loaded([ref])
                elif ref in running[ref].jobs:  # else it was lost with the worker, just now
                    yield from self._taken(running[ref], ref, again)
            self._watch()

    def _free(self) -> _Worker | None:
        """Return the ready worker with the fewest jobs, if it may have another."""
        ready = [worker for worker in self.all if worker.state == "ready"]
        worker = min(ready, key=lambda each: len(each.jobs), default=None)
        return worker if worker and len(worker.jobs) < QUEUED else None

    @staticmethod
    def _hand(worker: _Worker, job: Job) -> None:
        job.began = time.monotonic()
        method = getattr(worker.actor, job.method)
        worker.jobs[method.remote(job.item, *job.arguments)] = job

    def _finished(self, refs: Iterable[Any]) -> list[Any]:
        """Wait for a result for a moment; return all that have come, in the order of `refs`."""
        refs = list(refs)
        came, left = ray.wait(refs, num_returns=1, timeout=POLL_SECONDS)
        if came and left:
            came += ray.wait(left, num_returns=len(left), timeout=0)[0]
        return [ref for ref in refs if ref in came]

    def _taken(self, worker: _Worker, ref: ray.ObjectRef, again: deque[Job]) -> Iterator[Done]:
        """Yield a job that has ended; a job that three workers died of, too."""
        try:
            result, events = ray.get(ref)
        except RayError as error:
            job, *not_begun = worker.jobs.values()
            cause = getattr(error, "cause", None)
            if cause is not None and (job.method == "sums" or not isinstance(cause, AtpError)):
                raise cause from None  # of base prompts, as in one process; or a fault of atp
            again.extendleft(reversed(not_begun))
            job.losses += not getattr(error, "preempted", False)
            yield from self._tried_again(job, worker, again)
            self._lost(worker, error, by_pair=job.losses == TRIES)
            return
        _tell(worker, events)
        worker.losses = 0
        yield worker.jobs.pop(ref), worker, result

    def _tried_again(self, job: Job, worker: _Worker, again: deque[Job]) -> Iterator[Done]:
        """Put a job whose worker died in the queue, or yield it with the errors of its pairs."""
        if job.losses >= TRIES and job.method == "sums":
            msg = f"--baseline=mean: {TRIES} workers died of the same base prompts."
            raise UnavailableError(msg, "Look at the log; or use --baseline=zero.")
        if job.losses >= TRIES:
            analysis = {"error": "Worker died", "details": {"times": TRIES}}
            saes = len(self.wait_for_first().labels)
            analyses = [[analysis] * saes for _ in job.item.keys]
            yield job, worker, (orjson.dumps(analyses), [FailedPair(each) for each in analyses])
        elif job.losses == TRIES - 1 and job.method == "score":
            again.extendleft(replace(job, item=task) for task in reversed(job.item.alone()))
        else:
            again.appendleft(job)

    def _lost(self, worker: _Worker, error: Exception, *, by_pair: bool) -> None:
        """Let a worker that died load again, or give it up; a deadly pair is not its fault."""
        worker.jobs = {}
        worker.losses += not by_pair
        _tell_loss(worker, error)
        if worker.losses >= LOSSES:
            self._give_up(worker)
            return
        if isinstance(error, RayTaskError):  # its model is lost: a new process may do better
            ray.kill(worker.actor, no_restart=False)
        worker.state = "loading"
        self.loading[worker.actor.load.remote()] = worker

    def _take_loaded(self, refs: Iterable[Any]) -> None:
        """Let workers work that have loaded the model."""
        for ref in refs:
            worker = self.loading.pop(ref)
            try:
                ready, events = ray.get(ref)
            except RayError as error:
                cause = getattr(error, "cause", None)
                if cause is not None and self.first is None:
                    raise cause from None
                _tell_loss(worker, error)
                self._give_up(worker)
                continue
            worker.node, worker.state, worker.began = ready.node, "ready", time.monotonic()
            _tell(worker, events)
            if reason := self._difference(ready):
                log.warning("worker.lost", worker=worker.number, node=worker.node, reason=reason)
                self._give_up(worker)
                continue
            self.first = self.first or ready
            log.info("worker.ready", worker=worker.number, node=worker.node, pid=ready.pid)

    def _difference(self, ready: Ready) -> str:
        """Say in what a worker differs from the driver or from the first worker, if it does."""
        ours, theirs = map(_plain_versions, (program(), ready.facts))
        if differing := [name for name in ours if ours[name] != theirs[name]]:
            return f"its {' and '.join(differing)} differ from those of the driver"
        names = [name for name in ready.facts if name != "settings"]
        first = self.first or ready
        differing = [name for name in names if ready.facts[name] != first.facts[name]]
        differs = f"its {' and '.join(differing)} differ from those of the first worker"
        return differs if differing else ""

    def _give_up(self, worker: _Worker) -> None:
        worker.state = "gone"
        ray.kill(worker.actor)
        if all(each.state == "gone" for each in self.all):
            msg = f"no worker is left of {len(self.all)}."
            hint = "The log says why each was lost; the same command resumes."
            raise UnavailableError(msg, hint)

    def _watch(self) -> None:
        """From time to time, log what each worker does, and look whether the head is there."""
        now = time.monotonic()
        if now - self.state_told >= STATE_SECONDS:
            self.state_told = now
            log.info("workers.state", workers=[worker.as_json() for worker in self.all])
        if now - self.head_probed < PROBE_SECONDS:
            return
        self.head_probed = now
        if answers(self.head):
            self.silent_since = None
            return
        self.silent_since = self.silent_since or now
        if now - self.silent_since >= HEAD_SECONDS:
            msg = f"the head of the Ray cluster, {self.head}, does not answer."
            raise UnavailableError(msg, "Start the cluster again; the same command resumes.")


def _plain_versions(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the hash of atp's source, and versions; without builds: a driver may have no GPU."""
    versions = {name: each.partition("+")[0] for name, each in facts["versions"].items()}
    return {"source_sha256": facts["source_sha256"], **versions}


def _tell_loss(worker: _Worker, error: Exception) -> None:
    lines = str(getattr(error, "cause", None) or error).split("\n")
    first, *_, last = *filter(None, map(str.strip, lines)), ""
    reason = f"{first} {last}".strip()[:300]
    log.warning("worker.lost", worker=worker.number, node=worker.node, reason=reason)


def _tell(worker: _Worker, events: Iterable[Event]) -> None:
    """Log what a worker has logged."""
    for level, event in events:
        getattr(log, level)(**event, worker=worker.number)
