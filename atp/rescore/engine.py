"""The engine of `atp rescore`: its tasks are the batches that a run has captured.

A batch is scored as it was captured, because the last bits of a score depend on the batch. So the
results have the bytes of a run of attribution patching with the same SAEs.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import structlog

from atp.errors import SettingsError
from atp.rescore.stand_in import REMEDY, StandIn
from atp.run.batch_runner import BatchRunner
from atp.run.metadata import program
from atp.run.tasks import Planner, Scored, Task
from atp.runtime.prefetch import prefetch
from atp.runtime.signals import BatchAbortedError
from atp.scoring.places import check_names
from atp.scoring.preflight import check_on_capture
from atp.scoring.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from atp.config.settings import Settings
    from atp.dataset.pairs import PairKey
    from atp.model.dictionaries.loading import Dictionary
    from atp.model.dictionaries.placement import Dictionaries
    from atp.model.language_model import Model
    from atp.model.pair_tokenizer import PairTokenizer
    from atp.runtime.signals import StopRequest
    from atp.vectors.parts import Part
    from atp.vectors.reader import Vectors

log = structlog.get_logger()


def facts(settings: Settings, vectors: Vectors, dictionaries: Dictionaries) -> dict[str, Any]:
    """Return everything that decides the numbers: the facts of a run with these SAEs.

    `rescored` says in what they may differ from those of such a run, here and now.
    """
    of_run = vectors.run["facts"]
    captured_by = {name: of_run[name] for name in ("versions", "source_sha256")}
    rescored = {
        **({"vectors": vectors.header["vectors"]} if vectors.rounded else {}),
        **({"device": "cpu"} if of_run["model"]["device"] != "cpu" else {}),
        **({"captured_by": captured_by} if captured_by != program() else {}),
    }
    return {
        **of_run,
        **program(),
        "saes": [dictionary.describe() for dictionary in dictionaries],
        "method": settings.scoring.describe(),
        **({"rescored": rescored} if rescored else {}),
    }


class FromVectors:
    """Scores captured batches; an Engine that takes no tasks from its owner, but has its own."""

    pair_tokenizer = cast("PairTokenizer", None)  # its owner's tasks are never made

    def __init__(self, vectors: Vectors, dictionaries: Dictionaries, settings: Settings) -> None:
        self.vectors = vectors
        self.is_done: Callable[[PairKey], bool] = lambda _: False
        """Says whether a pair needs no further try."""
        self.facts = facts(settings, vectors, dictionaries)
        self.labels: Sequence[str] = [each.label for each in dictionaries]
        self.origin = vectors.origin
        self._stand_in = StandIn(vectors)
        for dictionary in dictionaries:
            for name in dictionary.writes:
                self._stand_in.check_hook(name, written=True)
            check_names(self._model, dictionary)
            if settings.scoring.reads_base_prompts:
                self._check_base_prompts(dictionary)
        budget = self.facts["settings"]["batch_tokens"]
        how = settings.top_k, settings.scoring, budget
        self.runner = BatchRunner(Scorer(self._model, dictionaries, *how))

    def _check_base_prompts(self, dictionary: Dictionary) -> None:
        """Raise SettingsError for a hook point that the run wrote, but did not read."""
        name = dictionary.hook_name
        read = dict.fromkeys(sae["hook_name"] for sae in self.vectors.run["facts"]["saes"])
        if name not in read:
            msg = f"{self.vectors.folder} has no vectors of base prompts at {name}; "
            msg += f"it has those at {', '.join(read)}."
            raise SettingsError(msg, REMEDY)

    @property
    def _model(self) -> Model:
        return cast("Model", self._stand_in)  # scoring alone asks no more of a model

    def planner(self, batch_tokens: int) -> Planner:
        """Return a planner, as an Engine does; it has nothing to plan."""
        position = self.runner.method.position
        return Planner(position, batch_tokens, whole_texts=False, whole_windows=False)

    def take_means(self, prompts: Iterable[tuple[int, ...]], stop: StopRequest) -> None:
        """Do nothing: `atp rescore` refuses the baseline that needs means."""

    def results(self, tasks: Iterator[Task], stop: StopRequest) -> Iterator[Scored]:
        """Yield the captured pairs that are left, batch by batch, and those without vectors."""
        del tasks
        if (without := self._without_vectors()) is not None:
            yield without
        parts = self.vectors.parts(lambda key: not self.is_done(key))
        for number, part in enumerate(prefetch(parts)):
            self._stand_in.take(part)
            self.runner.check = partial(self._check_fit, part)
            if number == 0:
                self.runner.check()
            for keyed in part.batches:
                if stop.requested:
                    return
                if all(map(self.is_done, keyed.keys)):
                    continue
                began = time.monotonic()
                task = Task(number, keyed.keys, [keyed.batch.pairs], [])
                try:
                    with stop.abortable():
                        analyses = self.runner.score([keyed.batch])
                except BatchAbortedError:
                    return  # the next start computes it
                yield Scored(task, analyses, began)

    def _without_vectors(self) -> Scored | None:
        captured = set(self.vectors.index.keys())  # an error may have come before
        left = {
            key: [analysis] * len(self.labels)
            for key, analysis in self.vectors.index.analyses.items()
            if key not in captured and not self.is_done(key)
        }
        task = Task(0, list(left), [], [])
        return Scored(task, list(left.values()), time.monotonic()) if left else None

    def _check_fit(self, part: Part) -> None:
        """Raise SettingsError for an SAE that the captured vectors do not fit."""
        captured = part.batches[0].batch.captured.pairs(slice(1))
        check_on_capture(self._model, self.runner.scorer.dictionaries, captured)

    def state(self) -> str:
        """Return an empty text: there are no workers."""
        return ""

    def end(self) -> None:
        """Warn of pairs that the run has not captured yet."""
        missing = int(self.vectors.run["pairs"]) - len(self.vectors.pairs())
        if missing:
            log.warning(
                "vectors.incomplete",
                vectors=str(self.vectors.folder),
                pairs=missing,
                hint="Start its atp run again, then this command: both resume.",
            )
