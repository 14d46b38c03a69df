"""Which features of an SAE are selected: one threshold after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from atp.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from atp.config.selection import SelectionSettings
    from atp.features.scored import ScoredPairs


@dataclass(frozen=True)
class Step:
    """One threshold, and its effect."""

    threshold: str  # as on the command line
    took: int
    left: int  # features after it


@dataclass(frozen=True)
class Selection:
    """The selected features of an SAE."""

    selected: list[str]  # ids by `mean_best`, the greatest first
    negative: list[str]  # ids by `mean_best`, the most negative first; at most as many
    steps: list[Step]

    @property
    def reason(self) -> str:
        """How many features each threshold took, in words."""
        parts = [f"{step.threshold} took {step.took:,}" for step in self.steps if step.took]
        return ", ".join(parts) or "no pair has a score other than 0"


def applicable(settings: SelectionSettings, scored: ScoredPairs, path: Path) -> SelectionSettings:
    """Return the settings, without the default ratio where no pair of an SAE has activations."""
    if settings.min_log_ratio is None or any(scored.has_activations):
        return settings
    if settings.ratio_given:
        msg = f"{path}: no pair carries prompt_activations, which "
        msg += f"--min-log-ratio={settings.min_log_ratio:g} needs."
        hint = "Run atp run with --prompt-activations, or pass --min-log-ratio=none."
        raise InputError(msg, hint)
    return replace(settings, min_log_ratio=None)


def select(table: pd.DataFrame, settings: SelectionSettings) -> Selection:
    """Apply the thresholds to the features of an SAE, a row each, over all pairs."""
    passes = {f"--min-score={settings.min_score:g}": table["mean_best"] > settings.min_score}
    if settings.min_log_ratio is not None:
        option = f"--min-log-ratio={settings.min_log_ratio:g}"
        passes[option] = table["log_ratio"] > settings.min_log_ratio
    option = f"--min-impact={settings.min_impact:g}"
    passes[option] = table["mean_best"].abs() >= settings.min_impact
    if settings.fdr is not None:
        passes[f"--fdr={settings.fdr:g}"] = table["q_value"] <= settings.fdr

    steps, left = [], table
    for option, passing in passes.items():
        kept = left[passing[left.index]]
        steps.append(Step(option, len(left) - len(kept), len(kept)))
        left = kept
    selected = _in_order(left, ascending=False)[: settings.top_features]
    option = f"--top-features={settings.top_features}"
    steps.append(Step(option, len(left) - len(selected), len(selected)))
    negative = _in_order(table[table["mean_best"] < 0], ascending=True)[: len(selected)]
    return Selection(selected, negative, steps)


def _in_order(table: pd.DataFrame, *, ascending: bool) -> list[str]:
    """Return the ids of features by `mean_best`; ties by number."""
    ordered = table.sort_values(["mean_best", "feature"], ascending=[ascending, True])
    return [str(feature) for feature in ordered["feature"]]
