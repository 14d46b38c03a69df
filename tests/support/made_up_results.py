"""Result files of made-up analyses, whole or in shards, as `atp run` writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runs import without_times

from atp.config.shard import Shard
from atp.dataset.input_scan import scan_input
from atp.dataset.journal import Analysis, Journal
from atp.dataset.output import result_names
from atp.dataset.pairs import PairKey
from atp.dataset.reader import pairs
from atp.dataset.results import write_results
from atp.run.metadata import fingerprint, metadata

STARTED, FINISHED = "2026-01-31T12:00:00+00:00", "2026-01-31T12:10:00+00:00"
SETTINGS: dict[str, Any] = {
    "max_tokens_to_check": 20,
    "top_k": 50,
    "chat_template": False,
    "limit": None,
    "shard": None,
    "batch_tokens": 256,
}
FACTS: dict[str, Any] = {
    "versions": {"atp": "0", "torch": "2"},
    "source_sha256": "c" * 64,
    "input": {},
    "model": {"name": "tiny", "dtype": "float32", "device": "cpu"},
    "saes": [{"spec": "sae", "hook_name": "blocks.1.hook_resid_post", "sha256": "d" * 64}],
    "method": {"name": "attribution patching"},
    "settings": SETTINGS,
}


def scored(number: float) -> Analysis:
    """Return an analysis whose every number is another for each number."""
    return {
        "target_token": " да",
        "logit_diff": number,
        "diagnostics": {"n_active": 32, "variance_explained": 0.1 + number * 1e-7},
        "top_features": [{"id": "7", "score": -number / 3e9, "activation": 1.0, "gradient": -0.0}],
    }


def source(folder: Path, questions: int = 4, name: str = "input.json") -> Path:
    """Write an input of two pairs a question, with fields that atp does not know."""
    flagged = {"template_type": "like", "prompt": "P", "response": "yes", "sycophancy_flag": 1}
    base = {"template_type": "", "prompt": "P", "response": "no", "odd": [10**30, "ODD"]}
    each = {"variations": [base, flagged, flagged], "note": "é"}
    text = json.dumps({"metadata": {"by": "hand"}, "results": [each] * questions}, indent=2)
    path = folder / name
    path.write_text(text.replace('"ODD"', "1e0, 1.10, 1e400, -0.0"), encoding="utf-8")
    return path


def of_all(path: Path) -> dict[PairKey, Analysis]:
    """Return an analysis for each pair of an input."""
    return {pair.key: scored(float(number)) for number, pair in enumerate(pairs(path))}


def dealt(analyses: Mapping[PairKey, Analysis], shard: Shard) -> dict[PairKey, Analysis]:
    """Return what a shard's journal holds when pairs are dealt out in turn."""
    return {
        key: analysis if shard.does(number) else {"elsewhere": str(shard.owner(number))}
        for number, (key, analysis) in enumerate(analyses.items())
    }


def result(
    folder: Path,
    path: Path,
    analyses: Mapping[PairKey, Analysis],
    shard: Shard | None = None,
    *,
    started: str = STARTED,
    **changed: Any,
) -> Path:
    """Write the result of a run, or of a shard.

    Args:
        folder: where.
        path: the input.
        analyses: what the run has found.
        shard: which part it is; None for a whole run.
        started: ISO time.
        changed: facts that are other than `FACTS` has them; settings are added to these.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = scan_input(path)
    name = None if shard is None else str(shard)
    settings = {**SETTINGS, "shard": name, **changed.pop("settings", {})}
    read = {"sha256": found.sha256, "bytes": found.size}
    facts = {**FACTS, "input": read, "settings": settings, **changed}
    stamp = re.sub(r"[-:]", "", started[:19]).replace("T", "_")
    run = "_".join(["tiny", *([] if shard is None else [shard.label]), stamp])
    header = {
        "pairs": found.pairs,
        "facts": facts,
        "fingerprint": fingerprint(facts),
        "settings": {**settings, "out": str(folder)},
        "started": started,
        "results": result_names(run, ["sae"]),
    }
    journal_path = folder / f"atp_results_{run}.journal.jsonl"
    journal_path.unlink(missing_ok=True)
    with Journal.create(journal_path, header) as journal:
        journal.add_all([(key, [analysis]) for key, analysis in analyses.items()])
        paths = [folder / each for each in header["results"]]
        write_results(found, journal, paths, metadata(found, journal, FINISHED))
    return paths[0]


def shards(folder: Path, path: Path, count: int, **options: Any) -> list[Path]:
    """Write the results of all shards of a run, each in a folder of its own."""
    analyses = of_all(path)
    parts = [Shard(index, count) for index in range(count)]
    return [
        result(folder / f"shard-{part.index}", path, dealt(analyses, part), part, **options)
        for part in parts
    ]


def without_places(path: str | Path) -> bytes:
    """Return the bytes of a result, whole or merged, without times and paths in `metadata.atp`."""
    text = re.sub(rb'\n +"merged_from": \[.*?\n      \]', b"", without_times(path), flags=re.DOTALL)
    return re.sub(rb'\n +"out": "[^"\n]*"', b"", text)
