"""The strongest features of a run, from its journal: a few numbers for the end of `atp run`.

`atp features` computes the same of all features. Here only the strongest get an interval, and the
journal is read, not the result file: a run over gigabytes ends at once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from atp.config.selection import SelectionSettings
from atp.dataset.journal import Journal, journals, outcome
from atp.features.scored import ScoredPairs
from atp.features.table import ALL, Group, numbers_of
from atp.run.metadata import RunTotals

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from atp.dataset.journal import Analysis


@dataclass
class SaeScores:
    """The scored pairs of one SAE of a run."""

    sae: dict[str, Any]  # its description in the journal
    totals: RunTotals
    pairs: ScoredPairs

    @property
    def ranked_by(self) -> str:
        """What features are ranked by, in words."""
        if all(self.pairs.has_effects):
            return "effect"
        score, best = (np.asarray(self.pairs.scores[name]) for name in ("score", "best"))
        return "score" if np.array_equal(score, best) else "score or effect"

    def strongest(self, count: int) -> dict[str, pd.DataFrame]:
        """Return the features of the largest `mean_best`, "promoting" and "suppressing".

        Each table has at most `count` rows, the largest first, with the columns of
        `atp features`.
        """
        feature = np.asarray(self.pairs.scores["feature"])
        ids, row = np.unique(feature, return_inverse=True)
        total = np.bincount(row, np.asarray(self.pairs.scores["best"]), len(ids))
        order = np.argsort(total, kind="stable")
        most = np.union1d(ids[order[:count]], ids[order[::-1][:count]])
        few = self.pairs.only(most)
        questions = len(np.unique(self.pairs.question))
        group = Group(ALL, None, np.ones(len(self.pairs), bool), len(self.pairs), questions)
        table = numbers_of(few, group, SelectionSettings()).sort_values(
            "mean_best", key=abs, ascending=False, kind="stable"
        )
        return {
            "promoting": table[table["mean_best"] > 0].head(count),
            "suppressing": table[table["mean_best"] < 0].head(count),
        }


@dataclass
class RunScores:
    """All that a run has scored."""

    header: dict[str, Any]  # of the journal
    saes: list[SaeScores]
    reasons: dict[str, Counter[str]] = field(
        default_factory=lambda: {"skipped": Counter(), "error": Counter()}
    )
    """Why pairs have no scores, with the number of pairs."""


def read_run(result: Path) -> RunScores:
    """Read the journal of a result file."""
    path = next(
        path
        for path, header in journals(result.parent)
        if header is not None and result.name in header.get("results", ())
    )
    with Journal.reopen(path) as journal:
        header = journal.header
        sharded = header["facts"]["settings"].get("shard") is not None
        run = RunScores(
            header,
            [
                SaeScores(sae, RunTotals.of_run(sharded=sharded), ScoredPairs(sae))
                for sae in header["facts"]["saes"]
            ],
        )
        for key in sorted(journal.offsets):
            analyses = journal.analyses(key) or []
            for of_sae, analysis in zip(run.saes, analyses, strict=True):
                of_sae.totals.add(analysis)
                if outcome(analysis) == "scored":
                    of_sae.pairs.add(_without_activations(analysis), key.question, {})
            kind = outcome(analyses[0])
            if kind in run.reasons:
                run.reasons[kind][analyses[0][kind]] += 1
    return run


def _without_activations(analysis: Analysis) -> Analysis:
    return {name: value for name, value in analysis.items() if name != "prompt_activations"}
