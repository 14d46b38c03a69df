"""The tables behind the pictures: those of a result, and of two results of one dictionary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from atp.report.answer import strongest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from atp.features.aggregation import SaeFeatures
    from atp.report.collected import CollectedPairs
    from atp.report.result_contents import ResultContents
    from atp.report.sources import Intervention


def chart_tables(contents: ResultContents) -> dict[str, pd.DataFrame]:
    """Return the tables behind the pictures of a result, by the name of the picture."""
    tables = {}
    features = contents.all_features
    if contents.features is not None:
        tables["strongest"] = pd.DataFrame(strongest_rows(contents.features, contents.labels))
    if features["log_ratio"].notna().any():
        columns = ["feature", "mean_best", "log_ratio", "selected"]
        tables["ratio"] = features.loc[features["log_ratio"].notna(), columns]
    removed = agreement(contents.pairs)
    if len(removed):
        tables["agreement"] = removed
    return tables


def strongest_rows(features: SaeFeatures, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the strongest features of both directions, with their intervals; None for no limit."""
    names = ("mean_best", "mean_best_low", "mean_best_high")
    return [
        {
            "feature": str(row["feature"]),
            "label": labels.get(str(row["feature"])),
            **{name: None if np.isnan(row[name]) else row[name] for name in names},
            "direction": direction,
        }
        for direction, rows in strongest(features).items()
        for row in rows.to_dict("records")
    ]


def agreement(pairs: CollectedPairs) -> pd.DataFrame:
    """Return the features that were removed for real, listed or drawn to check the others."""
    rows = np.flatnonzero(~np.isnan(np.asarray(pairs.listed["effect"])))
    of_pair = np.searchsorted(np.asarray(pairs.start), rows, side="right") - 1
    names = ("score", "effect", "relative_size")
    listed = pd.DataFrame(
        {
            "pair": of_pair,
            "feature": np.asarray(pairs.feature)[rows],
            **{name: np.asarray(pairs.listed[name])[rows] for name in names},
        }
    )
    drawn = pd.DataFrame(pairs.samples, columns=["pair", "feature", *names])
    removed = pd.concat([listed, drawn], ignore_index=True) if len(drawn) else listed
    return removed.drop_duplicates(["pair", "feature"], ignore_index=True)


def comparisons(read: Sequence[ResultContents]) -> dict[tuple[int, int], pd.DataFrame]:
    """Return the features of each two results of one dictionary and metric, with both means.

    A feature that no pair of a result lists has the mean 0 there.
    """
    found = {}
    for second, other in enumerate(read):
        for first, one in enumerate(read[:second]):
            if one.features is None or other.features is None:
                continue
            if one.result.sae != other.result.sae or (
                one.pairs.metric_name != other.pairs.metric_name
            ):
                continue
            means = (
                each.all_features.set_index("feature")["mean_best"].rename(name)
                for each, name in ((one, "mean_a"), (other, "mean_b"))
            )
            both = pd.concat(means, axis=1).fillna(0.0).sort_index()
            found[first, second] = both.reset_index()
    return found


def of_all(
    contents: Sequence[ResultContents], interventions: Sequence[Intervention]
) -> dict[str, pd.DataFrame]:
    """Return the tables behind every picture of a report, by file name: where it is from, and what.

    The last part of a name, after "_", is the name of the picture.
    """
    tables = {
        f"{each.name}_{name}": rows
        for each in contents
        for name, rows in chart_tables(each).items()
    }
    for (a, b), rows in comparisons(contents).items():
        tables[f"{contents[a].name}-{contents[b].name}_compare"] = rows
    for each in interventions:
        if not each.is_comparison:
            name = each.path.stem.removeprefix("atp_")
            tables[f"{name}_intervention"] = changes(each.content["summary"])
            pairs = pd.DataFrame([pair for pair in each.content["pairs"] if "before" in pair])
            tables[f"{name}_before_after"] = pairs
    return tables


def changes(summary: Mapping[str, Any]) -> pd.DataFrame:
    """Return the mean change of the metric by each set of features, with its interval."""
    rows = []
    for name in ("selected", "random", "negative"):
        if summary.get(name):
            low, high = summary[name]["interval"] or (None, None)
            change = summary[name]["mean_change"]
            rows.append({"set": name, "mean_change": change, "low": low, "high": high})
    return pd.DataFrame(rows)
