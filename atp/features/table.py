"""The numbers of each feature over the pairs of an SAE, and over each group of them.

Formulas and sources are in docs/features.md. A feature has a row in a group if a pair of the group
lists it with a score or an effect; in the other pairs it counts as 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import coo_array, csr_array
from scipy.stats import false_discovery_control

from atp.features.scored import GROUPINGS
from atp.stats.bootstrap import intervals, p_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atp.config.selection import SelectionSettings
    from atp.features.scored import Listed, ScoredPairs

    Numbers = np.ndarray

ALL = "all"
"""The group of all pairs."""

COLUMNS = {
    "sae": "name of the SAE",
    "sae_sha256": "hash of its weights",
    "hook_name": "hook point",
    "group": "`all`, `template_type` or `dataset`",
    "value": "which template type or dataset; empty for `all`, and where the input says nothing",
    "feature": "number of the feature in the SAE",
    "pairs": "scored pairs in the group",
    "questions": "questions they are of",
    "mean_score": "mean of the scores, logits",
    "mean_score_low": "lower end of its 95 % interval",
    "mean_score_high": "upper end",
    "mean_abs_score": "mean of the scores' sizes, logits",
    "sign_consistency": "share of the scores other than 0 that have the sign of the mean",
    "frequency": "share of the pairs in which the score is not 0",
    "nonzero_questions": "questions with a score that is not 0",
    "p_value": "of a mean score of 0",
    "q_value": "the same, adjusted for the number of features of the group",
    "effect_pairs": "pairs that carry effects",
    "mean_effect": "mean of the effects, logits",
    "mean_effect_low": "lower end of its 95 % interval",
    "mean_effect_high": "upper end",
    "activation_pairs": "pairs that carry the activations on both prompts",
    "mean_activation_flagged": "mean activation on the flagged prompts",
    "mean_activation_base": "mean activation on the base prompts",
    "log_ratio": "log10 of the first over the second, epsilon added to both",
    "selected": "whether the feature is selected, in its SAE",
    "link": "page of the feature on Neuronpedia",
}
"""The columns of the tables, in order, each with what it holds."""


@dataclass(frozen=True)
class Group:
    """Some pairs of an SAE."""

    name: str
    value: str | None
    members: Numbers
    """For each pair whether it is one of them."""
    pairs: int
    questions: int


def groups_of(scored: ScoredPairs) -> Iterator[Group]:
    """Yield all pairs, then those of each template type, then those of each dataset."""
    question = np.asarray(scored.question)
    yield _group(ALL, None, np.full(len(scored), fill_value=True), question)
    for name in GROUPINGS:
        codes, values = pd.factorize(np.array(scored.groups[name], dtype=object))
        order = sorted(enumerate(values), key=lambda item: str(item[1]))
        if (codes < 0).any():  # of those that say nothing
            order.append((-1, None))
        for code, value in order:
            yield _group(name, value, codes == code, question)


def _group(name: str, value: str | None, members: Numbers, question: Numbers) -> Group:
    inside = question[members]
    return Group(name, value, members, len(inside), len(np.unique(inside)))


def numbers_of(scored: ScoredPairs, group: Group, choice: SelectionSettings) -> pd.DataFrame:
    """Return the numeric columns of each feature in a group, features in order.

    Args:
        scored: the pairs of an SAE.
        group: which of them.
        choice: epsilon, resamples and seed.
    """
    pair, feature, score, effect = _entries(scored.scores, group)
    features, row = np.unique(feature, return_inverse=True)
    count = len(features)
    nonzero = score != 0
    table = pd.DataFrame({"feature": features})
    table["pairs"], table["questions"] = group.pairs, group.questions

    sums, sizes = _by_question(scored, group.members, (pair, row, score), count)
    total = np.bincount(row, score, count)
    table["mean_score"] = total / group.pairs
    table["mean_score_low"], table["mean_score_high"] = intervals(
        sums, sizes, choice.resamples, choice.seed
    )
    table["mean_abs_score"] = np.bincount(row, np.abs(score), count) / group.pairs
    listed = np.bincount(row, nonzero, count)
    agreeing = np.bincount(row, nonzero & (np.sign(score) == np.sign(total)[row]), count)
    known = (listed > 0) & (total != 0)
    table["sign_consistency"] = np.where(known, agreeing / np.maximum(listed, 1), np.nan)
    table["frequency"] = listed / group.pairs
    once = np.unique(np.stack([row, np.asarray(scored.question)[pair]])[:, nonzero], axis=1)
    table["nonzero_questions"] = np.bincount(once[0], minlength=count)
    table["p_value"] = p_values(sums, choice.resamples, choice.seed)
    table["q_value"] = false_discovery_control(table["p_value"]) if count else np.nan

    carrying = group.members & (np.asarray(scored.has_effects) == 1)
    effects = int(carrying.sum())
    table["effect_pairs"] = effects
    table["mean_effect"] = np.bincount(row, effect, count) / effects if effects else np.nan
    sums, sizes = _by_question(scored, carrying, (pair, row, effect), count)
    table["mean_effect_low"], table["mean_effect_high"] = intervals(
        sums, sizes, choice.resamples, choice.seed
    )
    return _with_activations(table, scored, group, choice.epsilon)


def _entries(listed: Listed, group: Group) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Return pair, feature and both numbers of what the pairs of a group list."""
    pair = np.asarray(listed.pair)
    inside = group.members[pair]
    columns = (pair, *map(np.asarray, (listed.feature, listed.first, listed.second)))
    pair, feature, first, second = (column[inside] for column in columns)
    return pair, feature, first, second


def _by_question(
    scored: ScoredPairs,
    carrying: Numbers,
    entries: tuple[Numbers, Numbers, Numbers],
    count: int,
) -> tuple[csr_array, Numbers]:
    """Return the sums over each question's pairs, (features, questions), and how many these are.

    Args:
        scored: the pairs of an SAE.
        carrying: for each pair whether it counts.
        entries: pair, row and number.
        count: of the rows.
    """
    pair, row, number = entries
    counted, sizes = np.unique(np.asarray(scored.question)[carrying], return_counts=True)
    inside = carrying[pair]
    place = np.searchsorted(counted, np.asarray(scored.question)[pair[inside]])
    shape = (count, len(counted))
    return coo_array((number[inside], (row[inside], place)), shape=shape).tocsr(), sizes


def _with_activations(
    table: pd.DataFrame, scored: ScoredPairs, group: Group, epsilon: float
) -> pd.DataFrame:
    """Add the mean activations on both prompts, over the pairs that carry them, and their ratio."""
    carrying = int((group.members & (np.asarray(scored.has_activations) == 1)).sum())
    _, feature, flagged, base = _entries(scored.activations, group)
    features = table["feature"].to_numpy()
    place = np.searchsorted(features, feature)
    inside = place < len(features)
    inside[inside] = features[place[inside]] == feature[inside]
    table["activation_pairs"] = carrying
    for name, activation in (("flagged", flagged), ("base", base)):
        sums = np.bincount(place[inside], activation[inside], len(features))
        table[f"mean_activation_{name}"] = sums / carrying if carrying else np.nan
    above, below = (table[f"mean_activation_{name}"] + epsilon for name in ("flagged", "base"))
    ratio = (above / below).where((above > 0) & (below > 0))  # some SAEs know negative activations
    table["log_ratio"] = np.log10(ratio)
    return table
