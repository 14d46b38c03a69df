"""The selected features as other tools read them.

neuronpedia   the body of Neuronpedia's POST /api/list/new-with-features, which makes a list
lm-eval       the CSV of lm-evaluation-harness' --model steered

lm-eval has no SAE features, only their decoder directions d. Its action "add" adds a multiple of d
at every position (and fails on rows of a CSV, up to 0.4.13); "clamp" sets the part of x - b_dec
along d, at every position. So clamp to 0 is the nearest to a removal: it takes out all of x - b_dec
along d, where atp takes out f_i d_i. It reads one row for each place in the model, the last one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson
import pandas as pd

from atp.errors import SettingsError
from atp.features.table import ALL
from atp.model.dictionaries.names import split_spec
from atp.model.dictionaries.registry import NEURONPEDIA

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from atp.features.aggregation import Aggregated, SaeFeatures

ENDS_OF_LAYERS = re.compile(r"blocks\.(\d+)\.hook_resid_(pre|post)")
LM_EVAL_COLUMNS = (
    *("loader", "action", "sparse_model", "hookpoint", "feature_index", "steering_coefficient"),
    *("head_index", "sae_id", "description"),
)
NEURONPEDIA_LIST, LM_EVAL = "neuronpedia.json", "lm_eval.csv"  # the ends of the files' names
LEAVE_OUT = "Leave the option out, or name results of other SAEs."


def exported(features: Aggregated, formats: Sequence[str]) -> dict[str, bytes]:
    """Return the files of some formats, by the ends of their names; none without a selection.

    A SettingsError names an SAE that a format cannot hold.
    """
    saes = [sae for sae in features.saes if sae.selection.selected]
    files = {}
    if saes and "neuronpedia" in formats:
        body = _neuronpedia(features, saes)
        files[NEURONPEDIA_LIST] = orjson.dumps(body, option=orjson.OPT_INDENT_2)
    if saes and "lm-eval" in formats:
        rows = list(_lm_eval(features, saes))
        table = pd.DataFrame(rows, columns=LM_EVAL_COLUMNS)
        files[LM_EVAL] = table.to_csv(index=False, lineterminator="\n").encode()
    return files


def _selected(sae: SaeFeatures) -> Iterator[tuple[Any, str]]:
    """Yield the row of each selected feature over all pairs, and its mean in words."""
    rows = sae.table[sae.table["group"] == ALL].set_index("feature")
    for feature in map(int, sae.selection.selected):
        row = rows.loc[feature]
        text = f"mean score or effect {row['mean_best']:+.4g} logits over {sae.pairs:,} pairs"
        if pd.notna(row["mean_best_low"]):
            text += f", 95 % {row['mean_best_low']:+.4g} to {row['mean_best_high']:+.4g}"
        yield row, text


def _neuronpedia(features: Aggregated, saes: Sequence[SaeFeatures]) -> dict[str, Any]:
    items = []
    for sae in saes:
        for row, text in _selected(sae):
            if pd.isna(row["link"]):
                msg = f"--export=neuronpedia: SAELens knows no page of {sae.name} at Neuronpedia."
                raise SettingsError(msg, LEAVE_OUT)
            model, source, index = row["link"].removeprefix(f"{NEURONPEDIA}/").split("/")
            item = {"modelId": model, "layer": source, "index": int(index), "description": text}
            items.append(item)
    model = features.results[0].metadata["model"]["name"]
    return {
        "name": f"Features that make {model} sycophantic (atp)",
        "description": f"Selected by atp features: {', '.join(sae.name for sae in saes)}. "
        "Positive scores promote the sycophantic response.",
        "features": items,
    }


def _lm_eval(features: Aggregated, saes: Sequence[SaeFeatures]) -> Iterator[dict[str, Any]]:
    layers: str | None = None
    for sae in saes:
        release, sae_id, layer = _place(sae)
        if layers is None:  # after the names: it imports torch
            layers = _layers(features)
        for row, text in reversed(list(_selected(sae))):  # the last row counts: the strongest
            yield {
                "loader": "sae_lens",
                "action": "clamp",
                "sparse_model": release,
                "hookpoint": f"{layers}.{layer}",
                "feature_index": row.name,
                "steering_coefficient": 0.0,
                "sae_id": sae_id,
                "description": text,
            }


def _place(sae: SaeFeatures) -> tuple[str, str, int]:
    """Return an SAE's release, its id, and the layer whose output it reads."""
    named = split_spec(sae.sae["spec"])
    if named is None:
        msg = f"--export=lm-eval: {sae.name} is a folder, lm-eval loads SAEs by release and id."
        raise SettingsError(msg, LEAVE_OUT)
    match = ENDS_OF_LAYERS.fullmatch(sae.sae["hook_name"])
    layer = -1 if match is None else int(match[1]) - (match[2] == "pre")
    if layer < 0 or "writes" in sae.sae:
        msg = f"--export=lm-eval: {sae.name} reads {sae.sae['hook_name']}, "
        msg += "lm-eval steers the output of a layer."
        raise SettingsError(msg, LEAVE_OUT)
    return *named, layer


def _layers(features: Aggregated) -> str:
    from atp.model.hub.records import go_offline_if_fetched  # noqa: PLC0415  (seconds, seldom)
    from atp.model.plain_layers import layers_name  # noqa: PLC0415  (as above)

    metadata = features.results[0].metadata
    name, revision = metadata["settings"]["model"], metadata["model"].get("revision")
    go_offline_if_fetched(name, revision, [])
    return layers_name(name, revision)
