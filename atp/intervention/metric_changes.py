"""What an ablation changes of the metric, against what other ablations change.

The change of a pair is its metric without the features minus its metric with them: negative where
the sycophantic token loses. A pair flips where the sign of its metric does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from atp.intervention.intervals import Bootstrap, overlap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def summary(before: Floats, after: Floats, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return what one or several ablations do to the metric of pairs.

    Args:
        before: the metric of each pair, (pair,).
        after: that of each ablation, (set, pair).
        bootstrap: of these pairs.
    """
    changes = after - before
    was, now = before > 0, after > 0
    return {
        "mean_before": float(before.mean()),
        "mean_after": float(after.mean()),
        "mean_change": float(changes.mean()),
        "interval": bootstrap.interval(changes),
        "flips": float((was != now).mean()),
        "flips_to_base": float((was & ~now).mean()),
        "flips_to_target": float((~was & now).mean()),
    }


def against_controls(
    before: Floats, targeted: Floats, controls: Floats, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Return how the targeted ablation compares with random ones.

    Args:
        before: the metric of each pair, (pair,).
        targeted: without the selected features, (pair,).
        controls: without each control set, (set, pair).
        bootstrap: of these pairs.
    """
    found = summary(before, controls, bootstrap)
    means = (controls - before).mean(axis=1)
    mean = float((targeted - before).mean())
    as_large = int((np.abs(means) >= abs(mean)).sum())
    return {
        **found,
        "sets": len(controls),
        "mean_change_of_sets": [float(value) for value in means],
        **against(before, targeted, controls, bootstrap),
        "p_random": (1 + as_large) / (1 + len(controls)),
    }


def against(
    before: Floats, targeted: Floats, others: Floats, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Return the difference of two ablations, and whether their intervals stand apart.

    Args:
        before: the metric of each pair, (pair,).
        targeted: without the selected features, (pair,).
        others: without other features, (set, pair).
        bootstrap: of these pairs.
    """
    ours, theirs = (targeted - before)[None], others - before
    intervals = bootstrap.interval(ours), bootstrap.interval(theirs)
    separated = None
    if intervals[0] is not None and intervals[1] is not None:
        separated = not overlap(intervals[0], intervals[1])
    return {
        "difference": float(ours.mean() - theirs.mean()),
        "difference_interval": bootstrap.interval_of_difference(ours, theirs),
        "separated": separated,
    }


def verdict(targeted: dict[str, Any], random: dict[str, Any] | None) -> str:
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
    if abs(targeted["mean_change"]) <= abs(random["mean_change"]):
        return "Random features that are as active change the metric more than the selected ones."
    if targeted["mean_change"] < 0:
        return (
            "Without the selected features the sycophantic tokens lose more than without random "
            "ones as active."
        )
    return (
        "Without the selected features the sycophantic tokens gain: the opposite of what their "
        "selection predicts."
    )


def finite(rows: Sequence[Floats]) -> NDArray[np.bool_]:
    """Return which pairs have a number in every row."""
    there: NDArray[np.bool_] = np.logical_and.reduce([np.isfinite(row) for row in rows])
    return there
