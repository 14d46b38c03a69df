"""Which features are selected: the thresholds, one after the other, and what each took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atp.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pandas as pd

    from atp.config.selection import SelectionSettings
    from atp.features.scored import ScoredPairs


@dataclass(frozen=True)
class Step:
    """What a threshold did."""

    option: str
    """As on the command line."""
    took: int
    left: int
    """Features that are left after it."""

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"threshold": self.option, "took": self.took, "left": self.left}


@dataclass(frozen=True)
class Selection:
    """The features that are selected of an SAE."""

    impact: str
    """The column that --min-impact looks at."""
    selected: list[int]
    """By mean score, the greatest first."""
    negative: list[int]
    """Those of the most negative mean score, the most negative first; as many at most."""
    steps: list[Step]

    @property
    def reason(self) -> str:
        """What each threshold took, in words."""
        parts = [f"{step.option} took {step.took:,}" for step in self.steps if step.took]
        return ", ".join(parts) or "no pair has a score other than 0"


def check_ratio(scored: ScoredPairs, choice: SelectionSettings, where: Path) -> None:
    """Make sure that there is what the ratio is of, if one is asked for.

    Args:
        scored: the pairs of an SAE.
        choice: the thresholds.
        where: a result of that SAE.

    Raises:
        InputError: no pair carries activations.
    """
    if choice.min_log_ratio is not None and not any(scored.has_activations):
        msg = f"{where}: no pair carries prompt_activations, which "
        msg += f"--min-log-ratio={choice.min_log_ratio:g} needs."
        hint = "Run atp run with --prompt-activations, or pass --min-log-ratio=none."
        raise InputError(msg, hint)


def select(table: pd.DataFrame, choice: SelectionSettings) -> Selection:
    """Apply the thresholds to the features of an SAE.

    Args:
        table: a row for each feature, over all pairs.
        choice: the thresholds.
    """
    everywhere = (table["effect_pairs"] == table["pairs"]).all()
    impact = "mean_effect" if len(table) and everywhere else "mean_score"
    passed: list[tuple[str, pd.Series]] = [
        (f"--min-score={choice.min_score:g}", table["mean_score"] > choice.min_score)
    ]
    if choice.min_log_ratio is not None:
        name = f"--min-log-ratio={choice.min_log_ratio:g}"
        passed.append((name, table["log_ratio"] > choice.min_log_ratio))
    passed.append((f"--min-impact={choice.min_impact:g}", table[impact].abs() >= choice.min_impact))
    if choice.fdr is not None:
        passed.append((f"--fdr={choice.fdr:g}", table["q_value"] <= choice.fdr))

    steps, left = [], table
    for name, keeps in passed:
        kept = left[keeps[left.index]]
        steps.append(Step(name, len(left) - len(kept), len(kept)))
        left = kept
    first = _in_order(left, ascending=False)[: choice.top_features]
    steps.append(Step(f"--top-features={choice.top_features}", len(left) - len(first), len(first)))
    negative = _in_order(table[table["mean_score"] < 0], ascending=True)[: len(first)]
    return Selection(impact, first.tolist(), negative.tolist(), steps)


def _in_order(table: pd.DataFrame, *, ascending: bool) -> np.ndarray:
    """Return features by mean score; by number where that ties."""
    ordered = table.sort_values(["mean_score", "feature"], ascending=[ascending, True])
    features: np.ndarray = ordered["feature"].to_numpy()
    return features
