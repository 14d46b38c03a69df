"""The files that `atp features` writes: the table as CSV and Parquet, and the features as JSON."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
from pyarrow import parquet

from atp import __version__
from atp.dataset.atomic import write_files
from atp.features.table import ALL, COLUMNS
from atp.stats.bootstrap import LEVEL

if TYPE_CHECKING:
    from pathlib import Path

    from atp.features.aggregation import Aggregated, SaeFeatures

SHARED_COLUMNS = ["sae", "sae_sha256", "hook_name", "group", "value", "pairs", "questions"]
"""Columns that the JSON file gives once for all features of an SAE."""

INTERVENTION_SETTINGS = (
    *("model", "chat_template", "metric", "sequence_tokens", "max_tokens_to_check"),
    "allow_other_model",
)
"""Settings of the results that `atp intervene` takes over."""


Joint = Mapping[str, dict[str, Any]]
"""What joint.py measured, by the SAE's name; empty if it was not asked to."""


def write(features: Aggregated, joint: Joint, folder: Path, name: str, created: str) -> list[Path]:
    """Write all files, and return them: CSV, Parquet, JSON; `name` is without their endings."""
    table = features.table
    as_parquet = io.BytesIO()
    parquet.write_table(
        pa.Table.from_pandas(table, schema=_schema(), preserve_index=False), as_parquet
    )
    contents = {  # the JSON file comes last: where it exists, the others do
        "csv": table.to_csv(index=False, lineterminator="\n").encode(),
        "parquet": as_parquet.getvalue(),
        "json": orjson.dumps(as_json(features, joint, created), option=orjson.OPT_INDENT_2),
    }
    return write_files(folder, name, contents)


def _schema() -> pa.Schema:  # the same whatever the values of the columns
    texts = {"sae", "sae_sha256", "hook_name", "group", "value", "link"}
    counts = {"feature", "pairs", "questions", "nonzero_questions"}
    counts |= {"effect_pairs", "activation_pairs"}
    types = {
        **dict.fromkeys(texts, pa.string()),
        **dict.fromkeys(counts, pa.int64()),
        "selected": pa.bool_(),
    }
    return pa.schema([(name, types.get(name, pa.float64())) for name in COLUMNS])


def as_json(features: Aggregated, joint: Joint, created: str) -> dict[str, Any]:
    """Return the content of the features file, which `atp intervene` reads."""
    metadatas = [result.metadata for result in features.results]
    first = metadatas[0]
    inputs = {each["input"]["sha256"]: each["input"] for each in metadatas}
    results = [
        {
            "path": str(result.path),
            "sha256": result.scan.sha256,
            "pairs": result.metadata["counts"]["scored"],
            "errors": result.metadata["counts"]["error"],
        }
        for result in features.results
    ]
    metadata = {
        "version": __version__,
        "created": created,
        "model": first["model"],
        "method": first["method"],
        "settings": {
            name: value
            for name, value in first["settings"].items()
            if name in INTERVENTION_SETTINGS
        },
        "inputs": list(inputs.values()),
        "results": results,
        "selection": features.settings.as_json(),
        "interval": {"level": LEVEL, "method": "BCa bootstrap over questions"},
    }
    return {
        "metadata": {"atp": metadata},
        "saes": [_sae(sae, joint.get(sae.name)) for sae in features.saes],
    }


def _sae(features: SaeFeatures, joint: dict[str, Any] | None) -> dict[str, Any]:
    table = features.table[features.table["group"] == ALL].drop(columns=SHARED_COLUMNS)
    table = table.sort_values(
        ["selected", "mean_best", "feature"], ascending=[False, False, True], kind="stable"
    )
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return {
        "sae": features.sae,
        "pairs": features.pairs,
        "groups": [
            {"group": g.name, "value": g.value, "pairs": g.pairs, "questions": g.questions}
            for g in features.groups
        ],
        "steps": features.selection.steps,
        "selected": features.selection.selected,
        "negative": features.selection.negative,
        **({} if joint is None else {"joint": joint}),
        "features": [{"id": str(row.pop("feature")), **row} for row in rows],
    }
