"""One result, read once: its pairs, and its features as `atp features` computes them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import pandas as pd

from atp.dataset.result_files import ResultFile
from atp.features.aggregation import SaeFeatures, aggregate
from atp.features.table import ALL
from atp.model.dictionaries.names import dictionary_label
from atp.report.collected import CollectedPairs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from atp.config.selection import SelectionSettings
    from atp.report.answer import Reasons

IN_GROUPS = 500  # features, the strongest, that have numbers by template and by dataset
FEATURE_COLUMNS = (
    *("feature", "selected", "mean_best", "mean_best_low", "mean_best_high"),
    *("mean_score", "mean_score_low", "mean_score_high", "mean_abs_score"),
    *("sign_consistency", "frequency", "nonzero_questions", "p_value", "q_value"),
    *("pairs", "questions", "activation_pairs"),
    *("effect_pairs", "mean_effect", "mean_effect_low", "mean_effect_high"),
    *("mean_activation_flagged", "mean_activation_base", "log_ratio"),
)


@dataclass(frozen=True)
class ResultContents:
    """One result, read once."""

    name: str  # short, as in layer20-2048; no other result of the report has it
    result: ResultFile
    pairs: CollectedPairs
    features: SaeFeatures | None  # None where no pair has a score
    labels: Mapping[str, str] = field(default_factory=dict)  # of features, by id

    @property
    def metadata(self) -> dict[str, Any]:
        """`metadata.atp` of the result."""
        return self.result.metadata

    @property
    def reasons(self) -> Reasons:
        """Why pairs have no scores, the most frequent first."""
        texts = self.pairs.texts_of
        outcomes, reasons = texts["outcome"], texts["reason"]
        both = zip(outcomes.codes.tolist(), reasons.codes.tolist(), strict=True)
        return [
            (str(outcomes.texts[outcome]), str(reasons.texts[reason]), count)
            for (outcome, reason), count in Counter(both).most_common()
            if reasons.texts[reason] is not None
        ]

    @property
    def all_features(self) -> pd.DataFrame:
        """The features over all pairs, in the order of the features file."""
        if self.features is None:
            return pd.DataFrame(columns=[*FEATURE_COLUMNS])
        rows = self.features.table[self.features.table["group"] == ALL]
        order = ["selected", "mean_best", "feature"]
        return rows.sort_values(order, ascending=[False, False, True], kind="stable")


class _Watched(ResultFile):
    """A result whose pairs are collected while its questions are read."""

    def __init__(self, result: ResultFile, pairs: CollectedPairs) -> None:
        super().__init__(**{each.name: getattr(result, each.name) for each in fields(ResultFile)})
        self._result, self._pairs = result, pairs

    def questions(self) -> Iterator[Any]:
        """Yield the questions, and collect their pairs."""
        yield from self._pairs.watch(self._result.questions())


def names_of(saes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the short names of the dictionaries of results, with a number where two are alike."""
    labels = [label_of(sae) for sae in saes]
    return [
        f"{label}-{labels[:number].count(label) + 1}" if labels.count(label) > 1 else label
        for number, label in enumerate(labels)
    ]


def label_of(sae: Mapping[str, Any]) -> str:
    """Return the short name of a dictionary, by its description in a result."""
    written = sae.get("writes")
    written = written[0] if written and len(written) == 1 else written
    return dictionary_label(sae["hook_name"], sae["d_sae"], written)


def read(name: str, result: ResultFile, settings: SelectionSettings) -> ResultContents:
    """Read a result once: its pairs, and its features as `atp features` computes them."""
    pairs = CollectedPairs(result.path)
    watched = _Watched(result, pairs)
    if result.metadata["counts"]["scored"]:
        return ResultContents(
            name, result, pairs, aggregate([watched], settings, IN_GROUPS).saes[0]
        )
    for _ in watched.questions():
        pass
    return ResultContents(name, result, pairs, None)
