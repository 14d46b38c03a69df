"""What a page holds: an overview, which is read at once, and blocks, which wait until needed.

`page/overview.d.ts` describes both for the scripts of the page.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from atp import __version__
from atp.config.method import Method
from atp.config.option import options_of
from atp.config.settings import Settings
from atp.features.table import ALL
from atp.intervention.report import cautions
from atp.report.answer import Answer
from atp.report.chart_tables import agreement, comparisons, strongest_rows
from atp.report.packing import TextColumn, table
from atp.report.result_contents import FEATURE_COLUMNS
from atp.report.texts import LANGUAGES, texts_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from atp.features.aggregation import SaeFeatures
    from atp.report.result_contents import ResultContents
    from atp.report.sources import Intervention

POINTS = 5000  # of a scatter; more of them only hide each other
NOT_COMPARED = {
    *("input", "out", "model", "revision", "sae", "batch_tokens"),
    *("device", "device_map", "fresh"),
}
"""Settings that the page shows elsewhere, or that decide no number."""


def page_data(
    read: Sequence[ResultContents],
    interventions: Sequence[Intervention],
    charts: Mapping[str, Any],
    created: str,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the overview and the blocks of a page; `charts` has specifications by language."""
    blocks: dict[str, str] = {}
    results = []
    for number, contents in enumerate(read):
        shared = next(
            (of for of, each in enumerate(read[:number]) if _same_texts(each, contents)), number
        )
        new = dict(_blocks(contents, f"r{number}", with_texts=shared == number))
        blocks |= new
        results.append(_overview(contents, [*new]) | {"texts": _texts(read[shared], shared)})
    compared = comparisons(read)
    for (a, b), both in compared.items():
        columns = {name: both[name].to_numpy() for name in ("mean_a", "mean_b")}
        feature = both["feature"].to_numpy(np.uint32)
        blocks[f"compare-{a}-{b}"] = table({"feature": feature, **columns})
    blocks |= {
        f"i{number}-pairs": _intervention_pairs(each.content["pairs"])
        for number, each in enumerate(interventions)
        if not each.is_comparison
    }
    overview = {
        "version": __version__,
        "created": created,
        "texts": {language: texts_in(language) for language in LANGUAGES},
        "charts": charts,
        "results": results,
        "interventions": [_intervention(each) for each in interventions],
        "compare": [{"a": a, "b": b} for a, b in compared],
    }
    return overview, blocks


def _same_texts(one: ResultContents, other: ResultContents) -> bool:
    if one.metadata["input"]["sha256"] != other.metadata["input"]["sha256"]:
        return False
    return one.pairs.question == other.pairs.question and (
        one.pairs.variation == other.pairs.variation
    )


def _texts(contents: ResultContents, number: int) -> dict[str, Any]:
    return {"of": number, "first": contents.pairs.texts.first}


def _overview(contents: ResultContents, blocks: list[str]) -> dict[str, Any]:
    metadata, features = contents.metadata, contents.features
    pairs = contents.pairs
    return {
        "name": contents.name,
        "file": contents.result.path.name,
        "model": metadata["model"]["name"],
        "sae": metadata["sae"],
        "metric": pairs.metric_name,
        "counts": metadata["counts"],
        "means": metadata.get("means", {}),
        "reasons": contents.reasons,
        "settings": different_settings(metadata["settings"]),
        "facts": {
            **{name: metadata[name] for name in ("model", "input", "method", "versions")},
            **{name: metadata[name] for name in ("started", "finished", "complete")},
        },
        "answer": {
            language: Answer(
                metadata, features, contents.reasons, contents.labels, language
            ).sentences()
            for language in LANGUAGES
        },
        "strongest": [] if features is None else strongest_rows(features, contents.labels),
        "selection": None if features is None else _selection(features),
        "groups": [] if features is None else _groups(features),
        "labels": dict(contents.labels),
        "link": None if features is None else _link(features.table),
        "positions": {"first": pairs.positions.first} if pairs.has_positions else None,
        "blocks": blocks,
    }


def different_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run that decide its numbers and differ from the defaults."""
    options = {**options_of(Settings), **options_of(Method)}.values()
    defaults = {
        option.name: [*option.default] if isinstance(option.default, tuple) else option.default
        for option in options
        if option.name not in NOT_COMPARED
    }
    return {
        name: value
        for name, value in settings.items()
        if name in defaults and value != defaults[name]
    }


def _selection(features: SaeFeatures) -> dict[str, Any]:
    return {
        "steps": [asdict(step) for step in features.selection.steps],
        "selected": features.selection.selected,
        "settings": features.settings.as_json(),
    }


def _groups(features: SaeFeatures) -> list[dict[str, Any]]:
    return [
        {"group": g.name, "value": g.value, "pairs": g.pairs, "questions": g.questions}
        for g in features.groups
    ]


def _link(rows: pd.DataFrame) -> str | None:
    first = next(rows.itertuples())
    return None if pd.isna(first.link) else f"{first.link.rpartition('/')[0]}/{{feature}}"


def _blocks(contents: ResultContents, name: str, *, with_texts: bool) -> Iterator[tuple[str, str]]:
    pairs = contents.pairs
    yield f"{name}-features", table(_as_arrays(contents.all_features[[*FEATURE_COLUMNS]]))
    if contents.features is not None:
        yield f"{name}-groups", _groups_block(contents.features)
    removed = agreement(pairs)
    if len(removed):
        count = min(POINTS, len(removed))
        shown = np.linspace(0, len(removed) - 1, count, dtype=int)
        pearson = (contents.metadata.get("exact") or {}).get("pearson")
        drawn = _as_arrays(removed.iloc[shown])
        yield f"{name}-agreement", table(drawn, total=len(removed), pearson=pearson)
    yield f"{name}-pairs", table(pairs.columns())
    yield f"{name}-listed", table(pairs.listed_columns())
    for number, block in enumerate(pairs.positions.blocks if pairs.has_positions else []):
        yield f"{name}-positions-{number}", block
    for number, block in enumerate(pairs.texts.blocks if with_texts else []):
        yield f"{name}-texts-{number}", block


def _as_arrays(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return columns in the types of a block."""
    types = {"feature": np.uint32, "pair": np.uint32, "selected": np.uint8}
    of_file = {"score", "effect", "relative_size"}  # float32 there
    return {
        name: rows[name].to_numpy(types.get(name, np.float32 if name in of_file else np.float64))
        for name in rows.columns
    }


def _groups_block(features: SaeFeatures) -> str:
    numbers = {(group.name, group.value): i for i, group in enumerate(features.groups)}
    rows = features.table[features.table["group"] != ALL]
    values = (None if pd.isna(value) else value for value in rows["value"])
    group = [numbers[key] for key in zip(rows["group"], values, strict=True)]
    means = ("mean_best", "mean_best_low", "mean_best_high")
    return table(
        {
            "feature": rows["feature"].to_numpy(np.uint32),
            "group": np.array(group, np.uint16),
            **{name: rows[name].to_numpy(np.float32) for name in means},
        }
    )


def _intervention(intervention: Intervention) -> dict[str, Any]:
    content = intervention.content
    rest = {name: value for name, value in content.items() if name != "pairs"}
    found = [] if intervention.is_comparison else cautions(content)
    comparison = intervention.is_comparison
    return {"file": intervention.path.name, "comparison": comparison, "cautions": found, **rest}


def _intervention_pairs(pairs: Sequence[Mapping[str, Any]]) -> str:
    """Return the pairs of an intervention as a table; `pair` is a place in the input."""
    texts = ("pair", "target_token", "base_token", "skipped", "error")
    numbers = ("before", "after", "change", "after_random", "after_negative")
    return table(
        {
            **{name: TextColumn([pair.get(name) for pair in pairs]) for name in texts},
            **{
                name: np.array([_or_nan(pair.get(name)) for pair in pairs], np.float64)
                for name in numbers
            },
            "flips": np.array([bool(pair.get("flips")) for pair in pairs], np.uint8),
        }
    )


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value
