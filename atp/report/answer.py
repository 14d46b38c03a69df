"""The answer of a result in sentences, which are made of its numbers alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unicodedata import bidirectional

import pandas as pd

from atp.features.table import ALL
from atp.report.texts import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from atp.features.aggregation import SaeFeatures

LONGEST_LABEL = 60  # letters, in a sentence
DIRECTED = "\N{FIRST STRONG ISOLATE}{}\N{POP DIRECTIONAL ISOLATE}"
NAMED = 3  # features of each direction in a sentence
STRONGEST = 10  # of each direction in the picture
DISCOVERY = 0.05  # false discovery rate: of many intervals, some exclude 0 by chance
DIRECTIONS = ("promotes", "suppresses")
Reasons = list[tuple[str, str, int]]
"""Skipped or error, why, and the number of pairs; the most frequent first."""


def strongest(features: SaeFeatures) -> dict[str, pd.DataFrame]:
    """Return the features of the largest `mean_best` of each direction, the largest first."""
    table = features.table[features.table["group"] == ALL]
    table = table.sort_values("mean_best", key=abs, ascending=False, kind="stable")
    kept = {"promotes": table["mean_best"] > 0, "suppresses": table["mean_best"] < 0}
    return {direction: table[kept[direction]].head(STRONGEST) for direction in DIRECTIONS}


@dataclass(frozen=True)
class Answer:
    """What the numbers of a result say, in one language."""

    metadata: Mapping[str, Any]  # `metadata.atp` of the result
    features: SaeFeatures | None  # None for a result without a scored pair
    reasons: Reasons
    labels: Mapping[str, str]  # of features, by id
    language: str

    def sentences(self) -> list[str]:
        """Return which features matter, how surely, what was checked, and what was left out."""
        if self.features is None:
            return [self._text("none"), *self._left_out()]
        tables = strongest(self.features)
        return [
            self._which(self.features, tables),
            self._sure(self.features, pd.concat(tables.values())),
            ("" if self.language == "ja" else " ").join(self._checked()),
            *self._left_out(),
        ]

    def _text(self, key: str, **values: object) -> str:
        return text(f"answer.{key}", self.language, **values)

    def _which(self, features: SaeFeatures, tables: Mapping[str, pd.DataFrame]) -> str:
        found = {direction: rows for direction, rows in tables.items() if len(rows)}
        in_sequence = self.metadata["method"].get("metric") == "sequence"
        return self._text(
            "both" if len(found) == len(DIRECTIONS) else next(iter(found), "neither"),
            pairs=f"{features.groups[0].pairs:,}",
            questions=f"{features.groups[0].questions:,}",
            metric=self._text("log_prob_diff" if in_sequence else "logit_diff"),
            **{direction: self._listed(rows) for direction, rows in found.items()},
        )

    def _listed(self, rows: pd.DataFrame) -> str:
        names = (
            self._text("other", feature=self._named(row.feature), mean=_signed(row.mean_best))
            for row in rows.head(NAMED).itertuples()
        )
        return self._text("named", features=self._text("between").join(names))

    def _named(self, feature: int) -> str:
        label = self.labels.get(str(feature))
        if label is None:
            return str(feature)
        return self._text("labelled", id=feature, label=_within_a_sentence(label))

    def _sure(self, features: SaeFeatures, rows: pd.DataFrame) -> str:
        overall = features.table[features.table["group"] == ALL]
        sure = (rows["mean_best_low"] > 0) | (rows["mean_best_high"] < 0)
        return self._text(
            "sure_of_one" if rows["mean_best_low"].isna().all() else "sure",
            shown=len(rows),
            sure=int(sure.sum()),
            discoveries=int((overall["q_value"] <= DISCOVERY).sum()),
            selected=len(features.selection.selected),
            features=f"{len(overall):,}",
        )

    def _checked(self) -> Iterator[str]:
        exact = self.metadata.get("exact")
        if not exact:
            yield self._text("unchecked")
        elif exact.get("pearson") is None:
            yield self._text("exact_alone", count=f"{exact['features']:,}")
        else:
            signs = _share(exact["sign_agreement"], 0)
            r = f"{exact['pearson']:.2f}"
            yield self._text("exact", count=f"{exact['features']:,}", r=r, signs=signs)
        explained = self.metadata.get("means", {}).get("variance_explained")
        if explained is not None:
            yield self._text("explained", share=_share(explained, 1))
        path = self.metadata.get("path", {})
        if not path.get("complete", True):
            yield self._text("incomplete", gap=_share(path["median_gap"], 0))

    def _left_out(self) -> Iterator[str]:
        counts = self.metadata["counts"]
        for kind in ("skipped", "error", "pending", "elsewhere"):
            if counts.get(kind):
                reason = next((why for of_kind, why, _ in self.reasons if of_kind == kind), "")
                numbers = {"count": f"{counts[kind]:,}", "pairs": f"{counts['pairs']:,}"}
                yield self._text(kind, **numbers, reason=reason)


def _within_a_sentence(label: str) -> str:
    """Return a label as one line, cut, and unable to turn the direction of what follows."""
    turns = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    line = " ".join("".join(c for c in label if bidirectional(c) not in turns).split())
    cut = line if len(line) <= LONGEST_LABEL else f"{line[:LONGEST_LABEL]}\N{HORIZONTAL ELLIPSIS}"
    return DIRECTED.format(cut)


def _signed(value: float) -> str:
    return f"{value:+.3g}".replace("-", "\N{MINUS SIGN}")


def _share(value: float, digits: int) -> str:
    return f"{100 * value:.{digits}f} %"
