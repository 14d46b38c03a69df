"""What a run says of itself: its fingerprint, and `metadata.atp` of its result files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import orjson

from atp.dataset.journal import outcome
from atp.dataset.output import unsharded
from atp.stats.agreement import Pooled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from atp.config.settings import Settings
    from atp.dataset.input_scan import InputScan
    from atp.dataset.journal import Analysis, Journal
    from atp.model.dictionaries.loading import Dictionary
    from atp.model.loading import Model

PACKAGE = Path(__file__).parents[1]
"""The folder of atp's own source."""

LIBRARIES = ("torch", "transformers", "transformer-lens", "sae-lens", "tokenizers")
MEANS = ("n_active", "variance_explained")
"""Diagnostics whose mean over the scored pairs the result states."""


def facts(
    settings: Settings,
    scan: InputScan,
    model: Model,
    dictionaries: Iterable[Dictionary],
    batch_tokens: int,
) -> dict[str, Any]:
    """Return everything that decides the numbers of a run, as JSON values."""
    return {
        "versions": {name: version(name) for name in ("atp", *LIBRARIES)},
        "source_sha256": source_sha256(),
        "input": {"sha256": scan.sha256, "bytes": scan.size},
        "model": {
            "name": model.name,
            **model.origin,
            "bos_token_id": model.bos_token_id,
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": model.device.type,
        },
        "saes": [dictionary.describe() for dictionary in dictionaries],
        "method": settings.scoring.describe(),
        "settings": {**settings.deciding_numbers(), "batch_tokens": batch_tokens},
    }


def source_sha256() -> str:
    """Return the hash of atp's own source: between releases, its version says little."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
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


@dataclass
class RunTotals:
    """What the analyses of one SAE come to, taken in input order: sums of floats depend on it."""

    counts: dict[str, int]
    """By outcome."""
    sums: dict[str, float]
    """Of the diagnostics whose mean is stated."""
    effects: Pooled = field(default_factory=Pooled)
    """Of all features that were removed, where effects were asked for."""

    @classmethod
    def of_run(cls, *, sharded: bool) -> Self:
        """Return an empty one; only in a shard there are pairs that are elsewhere."""
        outcomes = ("scored", "skipped", "error", *(("elsewhere",) if sharded else ()))
        return cls(dict.fromkeys(outcomes, 0), dict.fromkeys(MEANS, 0.0))

    def add(self, analysis: Analysis) -> None:
        """Take the next one."""
        self.counts[outcome(analysis)] += 1
        for name in MEANS if "diagnostics" in analysis else ():
            self.sums[name] += analysis["diagnostics"][name]
        listed = analysis.get("top_features", ())
        features = [
            each for each in listed if "effect" in each and (each["score"] or each["effect"])
        ]
        if features:
            self.effects.add(*([each[key] for each in features] for key in ("score", "effect")))

    def over_all(self) -> dict[str, Any]:
        """Return what `metadata.atp` says over all scored pairs: means, and how effects agree."""
        scored = self.counts["scored"]
        means = {name: total / scored for name, total in self.sums.items() if scored}
        return {
            "means": means,
            **({"exact": self.effects.as_json()} if self.effects.features else {}),
        }


def metadata(scan: InputScan, journal: Journal, finished: str) -> list[dict[str, Any]]:
    """Return `metadata.atp` of each result file.

    Args:
        scan: of the input.
        journal: what is done so far; its header tells of the run what it was when it began.
        finished: ISO time of the end, or of this save.
    """
    total = journal.header["pairs"]
    known = journal.header["facts"]
    saes = known["saes"]
    sharded = known["settings"].get("shard") is not None
    tallies = [RunTotals.of_run(sharded=sharded) for _ in saes]
    for analyses in journal.all_analyses():
        for tally, analysis in zip(tallies, analyses, strict=True):
            tally.add(analysis)
    return [
        {
            "complete": len(journal) == total,
            "counts": {
                "questions": scan.questions,
                "pairs": total,
                **tally.counts,
                "pending": total - len(journal),
            },
            **tally.over_all(),
            "model": known["model"],
            "sae": sae,
            "method": known["method"],
            "settings": {
                **journal.header["settings"],
                "batch_tokens": known["settings"]["batch_tokens"],
            },
            "input": {"path": str(scan.path), **known["input"]},
            "versions": known["versions"],
            "source_sha256": known["source_sha256"],
            "fingerprint": journal.header["fingerprint"],
            **({"unsharded": _unsharded(known, result)} if sharded else {}),
            "started": journal.header["started"],
            "finished": finished,
        }
        for sae, tally, result in zip(saes, tallies, journal.header["results"], strict=True)
    ]


def _unsharded(known: Mapping[str, Any], result: str) -> dict[str, str]:
    """Return what a shard's result says of the run of which it is a part, for `atp merge`.

    Args:
        known: the facts of the shard.
        result: the name of its result file.
    """
    whole = {**known, "settings": {**known["settings"], "shard": None}}
    return {"fingerprint": fingerprint(whole), "result": unsharded(result)}


def now() -> str:
    """Return the time, UTC, in ISO format."""
    return datetime.now(UTC).isoformat(timespec="seconds")
