"""Means with intervals that know that the pairs of a question are not independent.

The cluster bootstrap: questions are drawn with replacement, each with all its pairs; of several
random sets of features, sets are drawn, too. The percentiles of the resampled means are the
interval. Cameron, Gelbach and Miller 2008, https://doi.org/10.1162/rest.90.3.414; Efron and
Tibshirani 1993, chapter 13.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESAMPLES = 10_000
LEVEL = 0.95
WEIGHTS_AT_ONCE = 2**22
"""Numbers, 32 MiB."""


class Bootstrap:
    """Resamples of the questions, the same ones for every set of numbers that it is asked about.

    Args:
        questions: which question each pair belongs to.
        seed: of the draws.
    """

    def __init__(self, questions: NDArray[np.int64], seed: int) -> None:
        names, self._cluster = np.unique(questions, return_inverse=True)
        self.clusters = len(names)
        self._sizes = np.bincount(self._cluster, minlength=self.clusters).astype(np.float64)
        self._seed = seed

    def means(self, values: Floats) -> Floats:
        """Return the resampled means, (RESAMPLES,).

        Args:
            values: (set, pair); of several sets, the mean over the drawn ones.
        """
        sums = np.stack(
            [np.bincount(self._cluster, row, minlength=self.clusters) for row in values]
        )  # (set, cluster)
        found = []
        for draws, of_sets in self._draws(len(values)):
            per_set = (draws @ sums.T) / (draws @ self._sizes)[:, None]  # (resample, set)
            found.append((per_set * of_sets).sum(axis=1) / len(values))
        return np.concatenate(found)

    def _draws(self, sets: int) -> Iterator[tuple[Floats, Floats]]:
        """Yield how often each question and each set is drawn, some resamples at a time."""
        of_questions, of_sets = (np.random.default_rng([self._seed, i]) for i in (0, 1))
        step = max(1, WEIGHTS_AT_ONCE // max(self.clusters, sets))
        for start in range(0, RESAMPLES, step):
            count = min(step, RESAMPLES - start)
            yield _times(of_questions, self.clusters, count), _times(of_sets, sets, count)

    def interval(self, values: Floats) -> list[float] | None:
        """Return the interval of a mean; None where one question says nothing of others."""
        return self.percentiles(self.means(values)) if self.clusters > 1 else None

    def interval_of_difference(self, one: Floats, other: Floats) -> list[float] | None:
        """Return the interval of the difference of two means over the same pairs."""
        if self.clusters < 2:  # noqa: PLR2004  (as above)
            return None
        return self.percentiles(self.means(one) - self.means(other))

    @staticmethod
    def percentiles(means: Floats) -> list[float]:
        """Return the two ends of the middle 95 %."""
        tail = (1 - LEVEL) / 2
        return [float(end) for end in np.quantile(means, [tail, 1 - tail])]


def _times(generator: np.random.Generator, n: int, resamples: int) -> Floats:
    """Return how often each of n things is drawn in n draws, (resamples, n)."""
    return generator.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)


def overlap(one: list[float], other: list[float]) -> bool:
    """Say whether two intervals have a point in common."""
    return one[0] <= other[1] and other[0] <= one[1]
