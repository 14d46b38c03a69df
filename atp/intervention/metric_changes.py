"""How much an ablation changes the metric of pairs, beside other ablations.

The change of a pair is its metric without the features minus its metric with them: negative where
the sycophantic token loses. A pair flips where the sign of its metric changes.

Metrics and changes are (pair,) for the selected features, and (set, pair) for other sets of them.
`questions` is the question of each pair, (pair,), and `seed` that of the bootstrap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from atp.stats.bootstrap import interval_of_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]


def summary(before: Floats, after: Floats, questions: Integers, seed: int) -> dict[str, Any]:
    """Return how one or several ablations change the metric; `after` is (set, pair)."""
    changes = after - before
    flagged_before, flagged_after = before > 0, after > 0
    return {
        "mean_before": float(before.mean()),
        "mean_after": float(after.mean()),
        "mean_change": float(changes.mean()),
        "interval": interval_of_mean(changes, questions, seed),
        "flips": float((flagged_before != flagged_after).mean()),
        "flips_to_base": float((flagged_before & ~flagged_after).mean()),
        "flips_to_target": float((~flagged_before & flagged_after).mean()),
    }


def against(selected: Floats, others: Floats, questions: Integers, seed: int) -> dict[str, Any]:
    """Return the difference of two mean changes, and whether their intervals are separated."""
    of_selected = interval_of_mean(selected[None], questions, seed)
    of_others = interval_of_mean(others, questions, seed)
    separated = None
    if of_selected is not None and of_others is not None:
        separated = not overlap(of_selected, of_others)
    return {
        "difference": float(selected.mean() - others.mean()),
        "difference_interval": interval_of_mean(selected - others, questions, seed),
        "separated": separated,
    }


def against_controls(
    before: Floats, selected: Floats, controls: Floats, questions: Integers, seed: int
) -> dict[str, Any]:
    """Return how the ablation of the selected features compares with random ones, by metrics."""
    changes, control_changes = selected - before, controls - before
    means = control_changes.mean(axis=1)
    as_large = int((np.abs(means) >= abs(float(changes.mean()))).sum())
    return {
        **summary(before, controls, questions, seed),
        "sets": len(controls),
        "mean_change_of_sets": [float(mean) for mean in means],
        **against(changes, control_changes, questions, seed),
        "p_random": (1 + as_large) / (1 + len(controls)),
    }


def overlap(first: Sequence[float], second: Sequence[float]) -> bool:
    """Say whether two intervals have a point in common."""
    return first[0] <= second[1] and second[0] <= first[1]


def verdict(selected: dict[str, Any], random: dict[str, Any] | None) -> str:
    """Return in one sentence what the comparison with random features shows."""
    if random is None:
        return "There is no control set to compare with: the change may be that of any ablation."
    if random["separated"] is None:
        return "One question is too few for intervals: nothing is shown."
    if not random["separated"]:
        return (
            "No evidence that the selected features matter more than random ones as active: "
            "their intervals overlap."
        )
    if abs(selected["mean_change"]) <= abs(random["mean_change"]):
        return "Random features that are as active change the metric more than the selected ones."
    if selected["mean_change"] < 0:
        return (
            "Without the selected features the sycophantic tokens lose more than without random "
            "ones as active."
        )
    return (
        "Without the selected features the sycophantic tokens gain: the opposite of what their "
        "selection predicts."
    )
