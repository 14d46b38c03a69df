"""Random features that are about as active as the selected ones: what any ablation would change.

Taking out features that are active everywhere alters a model more than taking out rare ones. So a
control set has, for each selected feature, a random one of those next to it in the order of mean
activation over the texts (that of positions where the feature is silent counted as 0: how strongly
times how often).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NEAREST = 10
"""Among how many neighbours one is drawn."""


def matched(
    means: NDArray[np.float64], selected: Sequence[int], generator: np.random.Generator
) -> tuple[int, ...] | None:
    """Draw a control set.

    Args:
        means: the mean activation of each feature of the SAE.
        selected: the features to match.
        generator: of the draws.

    Returns:
        As many other features, no two the same; None where the SAE has too few that are active. A
        selected feature that is never active is matched with one that is not, either.
    """
    order = np.argsort(-means, kind="stable")
    rank = np.empty(len(means), dtype=np.int64)
    rank[order] = np.arange(len(means))
    free = np.ones(len(means), dtype=bool)
    free[list(selected)] = False
    drawn = []
    for feature in selected:
        candidates = np.flatnonzero(free & ((means > 0) == (means[feature] > 0)))
        if len(candidates) == 0:
            return None
        gaps = np.abs(rank[candidates] - rank[feature])
        nearest = candidates[np.argsort(gaps, kind="stable")[:NEAREST]]
        choice = int(generator.choice(nearest))
        free[choice] = False
        drawn.append(choice)
    return tuple(drawn)
