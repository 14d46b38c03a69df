"""Runs batches so that a fault of one pair never costs another pair its result.

A batch that fails is halved, down to the pair at fault; that pair gets an error as its result.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from atp.errors import UnavailableError
from atp.model.device_memory import figures, is_out_of_memory
from atp.scoring.analysis_json import failed
from atp.scoring.scorer import Reading, Scorer, check_dictionaries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.dataset.journal import Analysis
    from atp.model.dictionaries.placement import Dictionaries
    from atp.model.language_model import Model
    from atp.model.pair_tokenizer import TokenizedPair

FAILURES_IN_A_ROW = 8
"""Pairs that may fail one after the other before a probe tells whether the model still works."""

FIGURES = ("tokens", "free_bytes", "used_bytes", "peak_bytes", "total_bytes")
"""What the log tells of a batch that did not fit; messages of libraries stay in the result."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Failed:
    """A pair whose pass failed, and the analysis that says so."""

    analysis: Analysis


@dataclass
class Worker:
    """A model and its SAEs at work."""

    scorer: Scorer
    failures_in_a_row: Counter[str] = field(default_factory=Counter)
    """Of passes ("read") and of scoring ("analyse"): either may be lost while the other works."""

    @property
    def model(self) -> Model:
        """The model."""
        return self.scorer.model

    @property
    def dictionaries(self) -> Dictionaries:
        """Its SAEs."""
        return self.scorer.dictionaries

    def read(self, batch: Sequence[TokenizedPair]) -> list[Reading | Failed]:
        """Run the model over a batch.

        Returns:
            One reading of the batch, or several of its parts and what failed, in its order.

        Raises:
            UnavailableError: pair after pair fails, and a probe, too: model or device are lost.
        """
        try:
            reading = self.scorer.read(batch)
            self.failures_in_a_row["read"] = 0
            return [reading]  # noqa: TRY300  (an else would stand behind the except)
        except Exception as error:  # noqa: BLE001  (a pair's fault becomes that pair's error)
            failure = self._explain(error, batch)
        # Outside the except block: the traceback would keep the failed batch's tensors alive.
        if not self._tries_halves("read", failure, batch):
            return [Failed(failure)]
        half = len(batch) // 2
        return self.read(batch[:half]) + self.read(batch[half:])

    def analyse(self, pieces: Sequence[Reading | Failed]) -> list[list[Analysis]]:
        """Score what `read` returned.

        Returns:
            For each pair, in order, one analysis for each SAE.

        Raises:
            UnavailableError: as `read` does.
        """
        if any(isinstance(piece, Failed) for piece in pieces):
            return [analyses for piece in pieces for analyses in self._of(piece)]
        return self._analyse([piece for piece in pieces if isinstance(piece, Reading)])

    def _of(self, piece: Reading | Failed) -> list[list[Analysis]]:
        if isinstance(piece, Failed):
            return [[piece.analysis] * len(self.dictionaries)]
        return self._analyse([piece])

    def _analyse(self, readings: list[Reading]) -> list[list[Analysis]]:
        batch = [item for reading in readings for item in reading.batch]
        try:
            analyses = self.scorer.analyse(readings)
            self.failures_in_a_row["analyse"] = 0
            return analyses  # noqa: TRY300  (as in `read`)
        except Exception as error:  # noqa: BLE001  (as in `read`)
            failure = self._explain(error, batch)
        if not self._tries_halves("analyse", failure, batch):
            return [[failure] * len(self.dictionaries)]
        parts = readings if len(readings) > 1 else readings[0].halves()
        return [analyses for part in parts for analyses in self._analyse([part])]

    def _explain(self, error: Exception, batch: Sequence[TokenizedPair]) -> Analysis:
        """Return the analysis of a pair that is left with this error."""
        analysis = failed(error)
        if not is_out_of_memory(error):
            return analysis
        tokens = sum(item.contrast.read for item in batch)
        details = {**analysis["details"], "tokens": tokens, **figures(self.model.device)}
        return {"error": "OOM", "details": details}

    def _tries_halves(self, step: str, failure: Analysis, batch: Sequence[TokenizedPair]) -> bool:
        """Free memory; say whether there is more than one pair to try apart."""
        self.model.free_memory()
        if len(batch) > 1:
            event = "oom.retry" if failure["error"] == "OOM" else "batch.retry"
            figures = {key: failure["details"][key] for key in failure["details"] if key in FIGURES}
            log.warning(event, pairs=len(batch), error=failure["error"], **figures)
            return True
        # A pair that is too long is its own fault.
        self.failures_in_a_row[step] += failure["error"] != "OOM"
        if self.failures_in_a_row[step] >= FAILURES_IN_A_ROW:
            self._probe(failure)
            self.failures_in_a_row[step] = 0
        return False

    def _probe(self, failure: Analysis) -> None:
        """Tell pairs that are at fault, each by itself, from a model or a device that is lost.

        Raises:
            UnavailableError: nothing works any more.
        """
        try:
            check_dictionaries(self.model, self.dictionaries, self.scorer.method)
        except Exception as error:
            last = f"{failure['error']}: {failure['details']['message']}"
            msg = (
                f"{FAILURES_IN_A_ROW} pairs in a row failed, and a probe, too; the last with {last}"
            )
            hint = "Results so far are saved; mend the cause and start the same command."
            raise UnavailableError(msg, hint) from error
        log.warning("model.probed", pairs=FAILURES_IN_A_ROW, error=failure["error"])
