"""The files that `atp features` writes: the table as CSV and Parquet, and the features as JSON."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa
from pyarrow import parquet

from atp import __version__
from atp.dataset.atomic import atomic_write
from atp.features.table import ALL, COLUMNS
from atp.stats.bootstrap import LEVEL

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from atp.features.aggregation import Features, SaeFeatures

OF_A_ROW = ("sae", "sae_sha256", "hook_name", "group", "value", "pairs", "questions", "feature")
"""Columns that the JSON file tells once, or in another way."""


def write(found: Features, folder: Path, name: str, created: str) -> list[Path]:
    """Write all files.

    Args:
        found: what to write.
        folder: where.
        name: of the files, without their endings.
        created: the time, UTC, ISO format.

    Returns:
        The files: CSV, Parquet, JSON.

    Raises:
        SaveError: one cannot be written; those written before stand.
    """
    table = found.table
    contents = {
        "csv": table.to_csv(index=False, lineterminator="\n").encode(),
        "parquet": _parquet(table),
        "json": orjson.dumps(as_json(found, created), option=orjson.OPT_INDENT_2),
    }
    paths = []
    for ending, content in contents.items():  # the JSON file comes last: it says that all is there
        path = folder / f"{name}.{ending}"
        with atomic_write(path, len(content)) as file:
            file.write(content)
        paths.append(path)
    return paths


def _parquet(table: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pandas(table, schema=_schema(), preserve_index=False), file)
    return file.getvalue()


def _schema() -> pa.Schema:
    """Return the types of the columns, the same whatever stands in them."""
    texts = {"sae", "sae_sha256", "hook_name", "group", "value", "link"}
    counts = {"feature", "pairs", "questions", "nonzero_questions"}
    counts |= {"effect_pairs", "activation_pairs"}
    types = {
        **dict.fromkeys(texts, pa.string()),
        **dict.fromkeys(counts, pa.int64()),
        "selected": pa.bool_(),
    }
    return pa.schema([(name, types.get(name, pa.float64())) for name in COLUMNS])


def as_json(found: Features, created: str) -> dict[str, Any]:
    """Return the content of the features file, which `atp intervene` reads."""
    first = found.results[0].metadata
    results = [
        {
            "path": str(result.path),
            "sha256": result.scan.sha256,
            "pairs": result.metadata["counts"]["scored"],
            "errors": result.metadata["counts"]["error"],
        }
        for result in found.results
    ]
    told = {
        "version": __version__,
        "created": created,
        "model": first["model"],
        "method": first["method"],
        "results": results,
        "selection": found.choice.as_json(),
        "interval": {"level": LEVEL, "method": "BCa bootstrap over questions"},
    }
    return {"metadata": {"atp": told}, "saes": [_of_sae(each) for each in found.saes]}


def _of_sae(found: SaeFeatures) -> dict[str, Any]:
    table = found.table[found.table["group"] == ALL]
    table = table.sort_values(
        ["selected", "mean_score", "feature"], ascending=[False, False, True], kind="stable"
    )
    return {
        "sae": found.sae,
        "pairs": found.pairs,
        "groups": [
            {"group": g.name, "value": g.value, "pairs": g.pairs, "questions": g.questions}
            for g in found.groups
        ],
        "impact": found.selection.impact,
        "steps": [step.as_json() for step in found.selection.steps],
        "selected": found.selected,
        "negative": found.negative,
        "features": [_feature(row) for row in table.to_dict("records")],
    }


def _feature(row: dict[str, Any]) -> dict[str, Any]:
    """Return a feature as JSON values; what is not known is null."""
    numbers = {key: value for key, value in row.items() if key not in OF_A_ROW}
    return {"id": str(row["feature"]), **{key: _known(value) for key, value in numbers.items()}}


def _known(value: Any) -> Any:  # noqa: ANN401  (a cell)
    return None if isinstance(value, float) and np.isnan(value) else value
