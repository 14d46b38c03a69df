"""What a run says of itself: its fingerprint, and `metadata.atp` of its result files."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from atp.dataset.journal import outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from atp.dataset.journal import Journal
    from atp.dataset.survey import Survey
    from atp.model.dictionaries import Dictionary
    from atp.model.loading import Model
    from atp.settings import Settings

LIBRARIES = ("torch", "transformers", "transformer-lens", "sae-lens", "tokenizers")
MEANS = ("n_active", "variance_explained")
"""Diagnostics whose mean over the scored pairs the result states."""

METHOD = {"name": "attribution patching", "baseline": "zero", "position": "last prompt token"}


def facts(
    settings: Settings,
    survey: Survey,
    model: Model,
    dictionaries: Iterable[Dictionary],
    batch_tokens: int,
) -> dict[str, Any]:
    """Return everything that decides the numbers of a run, as JSON values."""
    return {
        "versions": {name: version(name) for name in ("atp", *LIBRARIES)},
        "source_sha256": source_sha256(),
        "input": {"sha256": survey.sha256, "bytes": survey.size},
        "model": {
            "name": model.name,
            **model.origin,
            "bos_token_id": model.bos_token_id,
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": model.device.type,
        },
        "saes": [dictionary.describe() for dictionary in dictionaries],
        "method": METHOD,
        "settings": {**settings.deciding_numbers(), "batch_tokens": batch_tokens},
    }


def source_sha256() -> str:
    """Return the hash of atp's own source: between releases, its version says little."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def fingerprint(known: Mapping[str, Any]) -> str:
    """Return the sha256 of facts, whatever the order of their keys.

    How an SAE was named is left out: the same weights by another path are the same run. So is the
    token budget, whose default depends on free memory: a run that goes on keeps its own.
    """
    saes = [{key: sae[key] for key in sae if key != "spec"} for sae in known["saes"]]
    settings = {key: known["settings"][key] for key in known["settings"] if key != "batch_tokens"}
    known = {**known, "saes": saes, "settings": settings}
    return hashlib.sha256(orjson.dumps(known, option=orjson.OPT_SORT_KEYS)).hexdigest()


def metadata(survey: Survey, journal: Journal, finished: str) -> list[dict[str, Any]]:
    """Return `metadata.atp` of each result file.

    Args:
        survey: of the input.
        journal: what is done so far; its header tells of the run what it was when it began.
        finished: ISO time of the end, or of this save.
    """
    total = journal.header["pairs"]
    known = journal.header["facts"]
    saes = known["saes"]
    counts: list[dict[str, int]] = [{"scored": 0, "skipped": 0, "error": 0} for _ in saes]
    sums: list[dict[str, float]] = [dict.fromkeys(MEANS, 0.0) for _ in saes]
    for analyses in journal.all_analyses():
        for which, analysis in enumerate(analyses):
            counts[which][outcome(analysis)] += 1
            for name in MEANS if "diagnostics" in analysis else ():
                sums[which][name] += analysis["diagnostics"][name]
    return [
        {
            "complete": len(journal) == total,
            "counts": {
                "questions": survey.questions,
                "pairs": total,
                **counts[which],
                "pending": total - len(journal),
            },
            "means": {
                name: sums[which][name] / counts[which]["scored"]
                for name in MEANS
                if counts[which]["scored"]
            },
            "model": known["model"],
            "sae": saes[which],
            "method": known["method"],
            "settings": {
                **journal.header["settings"],
                "batch_tokens": known["settings"]["batch_tokens"],
            },
            "input": {"path": str(survey.path), **known["input"]},
            "versions": known["versions"],
            "source_sha256": known["source_sha256"],
            "fingerprint": journal.header["fingerprint"],
            "started": journal.header["started"],
            "finished": finished,
        }
        for which in range(len(saes))
    ]


def now() -> str:
    """Return the time, UTC, in ISO format."""
    return datetime.now(UTC).isoformat(timespec="seconds")
