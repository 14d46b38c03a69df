"""What `atp features` can be told: the thresholds of the selection, and how it resamples."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from atp.config.settings import whole_number
from atp.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

NONE = "none"
"""How a threshold is left out."""


@dataclass(frozen=True)
class SelectionSettings:
    """Which features to select, and how to find out how sure their numbers are."""

    min_score: float = 0.0
    """The mean score must be above it; logits."""
    min_log_ratio: float | None = 0.5
    """The log10 of the mean activations, flagged to base, must be above it; None: not asked for."""
    min_impact: float = 0.0
    """|mean effect|, or |mean score| where no effect was measured, must reach it; logits."""
    fdr: float | None = None
    """The share of false discoveries to allow, Benjamini-Hochberg; None: no control."""
    top_features: int = 50
    """Of those left, how many to take of each SAE, by mean score."""
    epsilon: float = 1e-6
    """Added to both mean activations of the ratio."""
    resamples: int = 9999
    """Of the bootstrap, and of the test by sign flips."""
    seed: int = 0
    ratio_given: bool = False
    """Whether the user gave `min_log_ratio`; a default may be left out where it cannot apply."""

    def as_json(self) -> dict[str, Any]:
        """Return every threshold as a JSON value, for `metadata.atp.selection`."""
        values = asdict(self)
        del values["ratio_given"]
        return values


def number(
    what: str, accepted: Callable[[float], bool], *, or_none: bool = False
) -> Callable[[str, str], float | None]:
    """Return a parser of numbers.

    Args:
        what: which numbers are accepted, for the message.
        accepted: says of a finite number whether it is.
        or_none: whether "none" is accepted, too.
    """

    def parse(option: str, text: str) -> float | None:
        if or_none and text.strip().lower() == NONE:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or not accepted(value):
            msg = f"{option} must be {what}{', or none' if or_none else ''}, not {text!r}."
            raise SettingsError(msg)
        return value

    return parse


PARSERS: dict[str, Callable[[str, str], Any]] = {
    "min_score": number("a number", lambda _: True),
    "min_log_ratio": number("a number", lambda _: True, or_none=True),
    "min_impact": number("a number of at least 0", lambda value: value >= 0),
    "fdr": number("a number above 0 and at most 1", lambda value: 0 < value <= 1, or_none=True),
    "top_features": whole_number(1),
    "epsilon": number("a number above 0", lambda value: value > 0),
    "resamples": whole_number(100),
    "seed": whole_number(0),
}
