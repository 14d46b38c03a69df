"""Runs batches so that a fault of one pair never costs another pair its result.

A batch that fails is halved, down to the pair at fault; that pair gets an error as its result.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from atp.errors import UnavailableError
from atp.model.memory import figures, is_out_of_memory
from atp.scoring import Reading, analyse, read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.dataset.journal import Analysis
    from atp.model.contrast import Contrasted
    from atp.model.loading import Model
    from atp.model.placement import Dictionaries

FAILURES_IN_A_ROW = 8
"""Pairs that may fail one after the other before the run ends itself."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Failed:
    """A pair whose pass failed, and the analysis that says so."""

    analysis: Analysis


@dataclass
class Worker:
    """A model and its SAEs at work."""

    model: Model
    dictionaries: Dictionaries
    top_k: int
    failures_in_a_row: Counter[str] = field(default_factory=Counter)
    """Of passes ("read") and of scoring ("analyse"): either may be lost while the other works."""

    def read(self, batch: Sequence[Contrasted]) -> list[Reading | Failed]:
        """Run the model over a batch.

        Returns:
            One reading of the batch, or several of its parts and what failed, in its order.

        Raises:
            UnavailableError: pair after pair fails; the model or the device is at fault.
        """
        try:
            reading = read(self.model, self.dictionaries, batch)
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
            analyses = analyse(self.dictionaries, readings, self.top_k)
            self.failures_in_a_row["analyse"] = 0
            return analyses  # noqa: TRY300  (as in `read`)
        except Exception as error:  # noqa: BLE001  (as in `read`)
            failure = self._explain(error, batch)
        if not self._tries_halves("analyse", failure, batch):
            return [[failure] * len(self.dictionaries)]
        parts = readings if len(readings) > 1 else readings[0].halves()
        return [analyses for part in parts for analyses in self._analyse([part])]

    def _explain(self, error: Exception, batch: Sequence[Contrasted]) -> Analysis:
        """Return the analysis of a pair that is left with this error."""
        details: dict[str, Any] = {"message": str(error).splitlines()[0] if str(error) else ""}
        if not is_out_of_memory(error):
            return {"error": type(error).__name__, "details": details}
        details["tokens"] = sum(len(item.contrast.tokens) for item in batch)
        return {"error": "OOM", "details": {**details, **figures(self.model.device)}}

    def _tries_halves(self, step: str, failure: Analysis, batch: Sequence[Contrasted]) -> bool:
        """Free memory; say whether there is more than one pair to try apart."""
        self.model.free_memory()
        if len(batch) > 1:
            event = "oom.retry" if failure["error"] == "OOM" else "batch.retry"
            log.warning(event, pairs=len(batch), error=failure["error"], **failure["details"])
            return True
        # A lost device fails every pair alike; a pair that is too long is its own fault.
        self.failures_in_a_row[step] += failure["error"] != "OOM"
        if self.failures_in_a_row[step] >= FAILURES_IN_A_ROW:
            last = f"{failure['error']}: {failure['details']['message']}"
            msg = f"{FAILURES_IN_A_ROW} pairs in a row failed, the last with {last}"
            hint = "Results so far are saved; mend the cause and start the same command."
            raise UnavailableError(msg, hint)
        return False
