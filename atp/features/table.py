"""The numbers of each feature over all pairs of an SAE, and over each group of pairs.

docs/features.md has the formulas and their sources. A feature has a row in a group if a pair of the
group lists it with a score or an effect; in the other pairs it counts as 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.stats import false_discovery_control

from atp.features.scored import GROUPINGS
from atp.stats.bootstrap import intervals, p_values, question_sums

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from atp.config.selection import SelectionSettings
    from atp.features.scored import Listed, ScoredPairs

ALL = "all"  # the group of all pairs
COLUMNS = (
    *("sae", "sae_sha256", "hook_name", "group", "value", "feature", "pairs", "questions"),
    *("mean_best", "mean_best_low", "mean_best_high"),
    *("mean_score", "mean_score_low", "mean_score_high", "mean_abs_score"),
    *("sign_consistency", "frequency", "nonzero_questions", "p_value", "q_value"),
    *("effect_pairs", "mean_effect", "mean_effect_low", "mean_effect_high"),
    *("activation_pairs", "mean_activation_flagged", "mean_activation_base", "log_ratio"),
    *("selected", "link"),
)
"""The columns of the tables, in order; docs/features.md describes each."""


@dataclass(frozen=True)
class Group:
    """Some pairs of an SAE."""

    name: str
    value: str | None
    members: np.ndarray  # (pair,): whether it is one of them
    pairs: int
    questions: int


def groups_of(scored: ScoredPairs) -> list[Group]:
    """Return all pairs, then those of each template type, then those of each dataset."""
    groups: list[tuple[str, str | None, np.ndarray]] = [(ALL, None, np.ones(len(scored), bool))]
    for name in GROUPINGS:
        codes, values = pd.factorize(np.array(scored.groups[name], dtype=object))
        order = sorted(enumerate(values), key=lambda item: str(item[1]))
        if (codes < 0).any():  # of pairs without a value
            order.append((-1, None))
        groups += [(name, value, codes == code) for code, value in order]
    question = np.asarray(scored.question)
    return [
        Group(name, value, members, int(members.sum()), len(np.unique(question[members])))
        for name, value, members in groups
    ]


def numbers_of(scored: ScoredPairs, group: Group, settings: SelectionSettings) -> pd.DataFrame:
    """Return the numeric columns of each feature in a group, features in order."""
    listed = _columns(scored.scores, group)
    pair, score, effect, best = (listed[name] for name in ("pair", "score", "effect", "best"))
    features, row = np.unique(listed["feature"], return_inverse=True)
    count = len(features)
    question = np.fromiter(scored.question, np.int64)
    table = pd.DataFrame({"feature": features})
    table["pairs"], table["questions"] = group.pairs, group.questions

    def with_interval(name: str, values: np.ndarray, counted: np.ndarray) -> csr_array:
        """Add the limits of a mean over the counted pairs; return the sums over each question."""
        by_pair = coo_array((values, (row, pair)), shape=(count, len(scored)))
        sums, sizes = question_sums(by_pair, question, counted)
        limits = intervals(sums, sizes, settings.resamples, settings.seed)
        table[f"{name}_low"], table[f"{name}_high"] = limits
        return sums

    total = np.bincount(row, score, count)
    table["mean_score"] = total / group.pairs
    sums = with_interval("mean_score", score, group.members)
    table["mean_best"] = np.bincount(row, best, count) / group.pairs
    if np.array_equal(best, score):
        table["mean_best_low"], table["mean_best_high"] = (
            table[f"mean_score_{end}"] for end in ("low", "high")
        )
    else:
        sums = with_interval("mean_best", best, group.members)
    table["mean_abs_score"] = np.bincount(row, np.abs(score), count) / group.pairs
    nonzero = score != 0
    nonzero_pairs = np.bincount(row, nonzero, count)
    agreeing = np.bincount(row, nonzero & (np.sign(score) == np.sign(total)[row]), count)
    known = (nonzero_pairs > 0) & (total != 0)
    table["sign_consistency"] = np.where(known, agreeing / np.maximum(nonzero_pairs, 1), np.nan)
    table["frequency"] = nonzero_pairs / group.pairs
    row_and_question = np.unique(np.stack([row, question[pair]])[:, nonzero], axis=1)
    table["nonzero_questions"] = np.bincount(row_and_question[0], minlength=count)
    table["p_value"] = p_values(sums, settings.resamples, settings.seed)
    table["q_value"] = false_discovery_control(table["p_value"]) if count else np.nan

    carrying = group.members & (np.asarray(scored.has_effects) == 1)
    effect_pairs = int(carrying.sum())
    table["effect_pairs"] = effect_pairs
    total = np.bincount(row, np.where(carrying[pair], effect, 0), count)
    table["mean_effect"] = total / effect_pairs if effect_pairs else np.nan
    with_interval("mean_effect", effect, carrying)
    _add_activations(table, scored, group, settings.epsilon)
    return table


def _columns(listed: Listed, group: Group) -> dict[str, np.ndarray]:
    """Return the columns of what the pairs of a group list."""
    columns = {name: np.asarray(column) for name, column in listed.items()}
    inside = group.members[columns["pair"]]
    return {name: column[inside] for name, column in columns.items()}


def _add_activations(
    table: pd.DataFrame, scored: ScoredPairs, group: Group, epsilon: float
) -> None:
    """Add the mean activations on both prompts, over the pairs that carry them, and their ratio."""
    carrying = int((group.members & (np.asarray(scored.has_activations) == 1)).sum())
    listed = _columns(scored.activations, group)
    features, feature = table["feature"].to_numpy(), listed["feature"]
    # Only of features that have a row: more features are active than have a score.
    row = np.searchsorted(features, feature)
    inside = row < len(features)
    inside[inside] = features[row[inside]] == feature[inside]
    table["activation_pairs"] = carrying
    for side in ("flagged", "base"):
        sums = np.bincount(row[inside], listed[side][inside], len(features))
        table[f"mean_activation_{side}"] = sums / carrying if carrying else np.nan
    flagged, base = (table[f"mean_activation_{side}"] + epsilon for side in ("flagged", "base"))
    # Some SAEs have negative activations, whose ratio has no logarithm.
    table["log_ratio"] = np.log10((flagged / base).where((flagged > 0) & (base > 0)))
