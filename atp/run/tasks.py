"""Tasks: the batches that one process scores at a time, with all that their numbers depend on.

A window of pairs is planned as a whole, whichever of them are left to score and whoever scores
them: so a resumed run, a shard and a cluster make the same batches, and a pair's numbers depend in
their last bits on its batch.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from atp.attribution.batches import plan
from atp.scoring.base_prompts import plan_base_prompts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from atp.attribution.contrasts import Position
    from atp.dataset.journal import Analysis
    from atp.model.pair_tokenizer import PairTokenizer, TokenizedPair
    from atp.run.batch_runner import FailedPair
    from atp.runtime.signals import StopRequest
    from atp.scoring.base_prompts import Prompt
    from atp.scoring.scorer import CapturedBatch
    from atp.vectors.origin import Origin


@dataclass(frozen=True)
class Task:
    """Batches that are scored together."""

    window: int  # the number of the window that its pairs are of
    keys: Sequence[Any]  # what its owner knows its pairs by, one each
    batches: Sequence[Sequence[TokenizedPair]]
    base_batches: Sequence[Sequence[Prompt]]
    """The batches in which the base prompts of its pairs are run."""

    @property
    def pairs(self) -> list[TokenizedPair]:
        """The pairs, in the order of the keys."""
        return list(chain.from_iterable(self.batches))

    def alone(self) -> list[Task]:
        """Return a task for each pair."""
        pairs = zip(self.keys, self.pairs, strict=True)
        return [replace(self, keys=[key], batches=[[pair]]) for key, pair in pairs]


@dataclass(frozen=True)
class Window:
    """The batches of a window of pairs, and of their base prompts."""

    number: int
    pairs: Sequence[TokenizedPair]
    batches: Sequence[Sequence[int]]  # numbers of pairs
    base_batches: Mapping[Prompt, Sequence[Prompt]]  # by prompt, the batch that it is run in

    def task(self, batches: Sequence[Sequence[int]], keys: Sequence[Any]) -> Task:
        """Return some of the batches as a task; `keys` are those of all pairs of the window."""
        numbers = list(chain.from_iterable(batches))
        prompts = [self.pairs[number].base_prompt for number in numbers]
        base = {id(batch): batch for each in prompts if each for batch in [self.base_batches[each]]}
        return Task(
            self.number,
            [keys[number] for number in numbers],
            [[self.pairs[number] for number in batch] for batch in batches],
            list(base.values()),
        )


@dataclass
class Planner:
    """Plans the windows of a run, one after the other."""

    position: Position
    batch_tokens: int
    whole_texts: bool
    """Whether the model's layers keep more than keys and values of earlier tokens."""
    whole_windows: bool
    """Whether all batches of a window are one task: they share what is slow to fetch."""
    windows: int = 0

    def plan(self, pairs: Sequence[TokenizedPair]) -> Window:
        """Plan the batches of the next window, and those of its base prompts."""
        self.windows += 1
        whole = self.whole_texts
        contrasts = [pair.contrast for pair in pairs]
        return Window(
            self.windows,
            pairs,
            plan(contrasts, self.batch_tokens, self.position, whole=whole),
            plan_base_prompts((pair.base_prompt for pair in pairs), self.batch_tokens, whole=whole),
        )

    def grouped(self, batches: Sequence[Sequence[int]]) -> list[list[Sequence[int]]]:
        """Return some batches of a window in the groups that are one task each."""
        if self.whole_windows:
            return [list(batches)] if batches else []
        return [[batch] for batch in batches]


@dataclass(frozen=True)
class Scored:
    """A task, and one analysis for each pair and SAE."""

    task: Task
    analyses: list[list[Analysis]]  # of the first pairs; of all, unless a signal ended the work
    began: float  # on the clock of time.monotonic
    worker: int | None = None  # its number, where there are several
    captured: Sequence[CapturedBatch | FailedPair] = ()
    """The captures that were scored, where they are to be kept."""

    def seconds(self) -> float:
        """Return how long ago the work began."""
        return time.monotonic() - self.began


class Engine(Protocol):
    """Scores the tasks of a run."""

    pair_tokenizer: PairTokenizer
    facts: dict[str, Any]
    """Everything that decides the numbers; the token budget is the default, or as asked for."""
    labels: Sequence[str]
    """The short names of the SAEs."""
    origin: Origin
    """What the model adds to the vectors of its hook points."""

    def planner(self, batch_tokens: int) -> Planner:
        """Return what plans the run's windows under a token budget."""

    def take_means(self, prompts: Iterable[Prompt], stop: StopRequest) -> None:
        """Take the mean of each feature's activation over base prompts."""

    def results(self, tasks: Iterator[Task], stop: StopRequest) -> Iterator[Scored]:
        """Yield tasks as they are scored, in any order; a task that a signal cuts off is not.

        Tasks are taken one by one, when a worker is free. UnavailableError says that the model is
        lost.
        """

    def state(self) -> str:
        """Say for the live line how many workers there are; empty for this process alone."""

    def end(self) -> None:
        """Release what the tasks needed; there are no more."""
