"""The settings of `atp features`: the thresholds of the selection, and how it resamples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from atp.config.checks import SomeOf, number, or_none, whole_number
from atp.config.option import Group, json_values, option, switch

Export = Literal["neuronpedia", "lm-eval"]

_not_negative = number("a number of at least 0", lambda value: value >= 0)
_positive = number("a number above 0", lambda value: value > 0)
_rate = number("a number above 0 and at most 1, or none", lambda value: 0 < value <= 1)
_number_or_none = or_none(number("a number, or none"))


def seed_option() -> int:
    """Declare --seed, which two commands take."""
    help_text = "Seed of resamples, control sets and sampled responses."
    return option(Group.DRAW, 0, "N", whole_number(0), help=help_text)


@dataclass(frozen=True)
class SelectionSettings:
    """Which features to select, and how to find out how sure their numbers are."""

    min_score: float = option(Group.SELECT, 0.0, "X", number("a number"))
    """The mean over all pairs, of the effect where it was measured and else of the score, must be
    above X logits."""
    min_log_ratio: float | None = option(Group.SELECT, 0.5, "X", _number_or_none)
    """log10 of the mean activation on flagged prompts, over that on base prompts, must be above X;
    none turns this off. It needs results of atp run --prompt-activations; other results are
    selected without it, unless it is given."""
    min_impact: float = option(Group.SELECT, 0.0, "X", _not_negative)
    """The size of that mean must be at least X logits."""
    fdr: float | None = option(Group.SELECT, None, "Q", or_none(_rate))
    """Of the features whose mean differs from 0, take those with a false discovery rate of Q,
    as in 0.05 (Benjamini-Hochberg); none turns this off. Default: none."""
    top_features: int = option(Group.SELECT, 50, "K", whole_number(1))
    """Of the features that are left, take the K of each SAE with the greatest mean."""
    joint_effect: bool = switch(Group.SELECTED)
    """Also remove the selected features together from every pair, at the positions that were
    scored, and measure what the metric loses. This loads the model and the SAEs of the results."""
    epsilon: float = option(Group.SELECT, 1e-6, "X", _positive)
    """Added to both activations of that ratio."""
    resamples: int = option(Group.SELECT, 9999, "N", whole_number(100))
    """Of the bootstrap for the 95 % intervals, and of the test by sign flips for the p-values."""
    seed: int = seed_option()
    export: tuple[Export, ...] = option(Group.SELECTED, (), "NAMES", SomeOf(get_args(Export)))
    """Also write the selected features as others read them, as in neuronpedia,lm-eval: the body of
    a request that makes a list at Neuronpedia; a CSV for lm-evaluation-harness' --model=steered."""
    ratio_given: bool = False  # else `min_log_ratio` is left out where it cannot apply

    def as_json(self) -> dict[str, Any]:
        """Return every threshold as a JSON value, for `metadata.atp.selection`."""
        values = json_values(self, "features")
        del values["export"]  # no threshold
        return values
