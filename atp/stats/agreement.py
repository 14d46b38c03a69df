"""How well scores agree with effects: correlation and signs, of one pair or pooled over many."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def agreement(scores: Sequence[float], effects: Sequence[float]) -> dict[str, float | None]:
    """Return Pearson's and Spearman's correlation, and the share of features with equal signs.

    None stands for a correlation that is not defined: of fewer than two features, or where all
    scores or all effects are equal; and for the share of no feature.
    """
    from scipy import stats  # noqa: PLC0415  (two seconds, which only exact effects need)

    s, e = np.asarray(scores, dtype=float), np.asarray(effects, dtype=float)
    signs = float(np.mean(np.sign(s) == np.sign(e))) if len(s) else None
    if len(s) < 2 or np.ptp(s) == 0 or np.ptp(e) == 0:  # noqa: PLR2004  (a line needs two points)
        return {"pearson": None, "spearman": None, "sign_agreement": signs}
    with warnings.catch_warnings():  # of nearly constant numbers, which give NaN
        warnings.simplefilter("ignore")
        correlations = {"pearson": stats.pearsonr(s, e)[0], "spearman": stats.spearmanr(s, e)[0]}
    defined = {
        name: float(value) if np.isfinite(value) else None for name, value in correlations.items()
    }
    return {**defined, "sign_agreement": signs}


@dataclass
class Pooled:
    """Sums over the scores s and effects e of many pairs."""

    features: int = 0
    same_sign: int = 0
    sums: tuple[float, ...] = (0.0,) * 5  # of s, e, s², e² and s e

    def add(self, scores: Sequence[float], effects: Sequence[float]) -> None:
        """Add one pair."""
        s, e = np.asarray(scores, dtype=float), np.asarray(effects, dtype=float)
        self.features += len(s)
        self.same_sign += int(np.sum(np.sign(s) == np.sign(e)))
        products = (s.sum(), e.sum(), s @ s, e @ e, s @ e)
        self.sums = tuple(a + float(b) for a, b in zip(self.sums, products, strict=True))

    def as_json(self) -> dict[str, Any]:
        """Return the number of features, the correlation and the share of equal signs."""
        n = self.features
        s, e, ss, ee, se = self.sums
        spread = (n * ss - s * s) * (n * ee - e * e)
        return {
            "features": n,
            "pearson": (n * se - s * e) / spread**0.5 if spread > 0 else None,
            "sign_agreement": self.same_sign / n if n else None,
        }
