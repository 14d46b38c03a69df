"""The description of a run: its fingerprint, and `metadata.atp` of its result files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol, Self

import orjson

from atp import __version__
from atp.config.method import COMPLETE_GAP
from atp.dataset.journal import outcome
from atp.dataset.output import unsharded
from atp.stats.agreement import Pooled
from atp.stats.tolerance import CONFIDENCE, COVERAGE, upper_bound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from atp.config.settings import Settings
    from atp.dataset.input_scan import InputScan
    from atp.dataset.journal import Analysis
    from atp.model.dictionaries.loading import Dictionary
    from atp.model.language_model import Model

PACKAGE = Path(__file__).parents[1]  # the folder of atp's own source

LIBRARIES = ("torch", "transformers", "transformer-lens", "sae-lens", "tokenizers")
MEANS = ("n_active", "variance_explained")
"""Diagnostics whose mean over the scored pairs is in `metadata.atp`."""


def facts(
    settings: Settings,
    scan: InputScan,
    model: Model,
    dictionaries: Iterable[Dictionary],
    batch_tokens: int,
) -> dict[str, Any]:
    """Return everything that decides a run's numbers, as JSON values."""
    return {
        **program(),
        "input": {"sha256": scan.sha256, "bytes": scan.size},
        "model": {
            "name": model.name,
            **model.origin,
            "bos_token_id": model.bos_token_id,
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": model.device.type,
            "attention": model.attention,
        },
        "saes": [dictionary.describe() for dictionary in dictionaries],
        "method": settings.scoring.describe(),
        "settings": {**settings.deciding_numbers(), "batch_tokens": batch_tokens},
    }


def program() -> dict[str, Any]:
    """Return the facts of atp itself and of the libraries that compute."""
    versions = {"atp": __version__, **{name: version(name) for name in LIBRARIES}}
    return {"versions": versions, "source_sha256": source_sha256()}


@cache
def source_sha256() -> str:
    """Return the hash of atp's own source: between releases, the version stays the same."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def fingerprint(known: Mapping[str, Any]) -> str:
    """Return the sha256 of facts, whatever the order of their keys.

    The names of SAEs are left out: the same weights by another path are the same run. So is the
    token budget, whose default depends on free memory: a resumed run keeps its own.
    """
    saes = [{key: sae[key] for key in sae if key != "spec"} for sae in known["saes"]]
    settings = {key: known["settings"][key] for key in known["settings"] if key != "batch_tokens"}
    known = {**known, "saes": saes, "settings": settings}
    return hashlib.sha256(orjson.dumps(known, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass
class RunTotals:
    """Counts and sums over the analyses of one SAE, in input order: float sums depend on it."""

    counts: dict[str, int]  # by outcome
    sums: dict[str, float]  # of the diagnostics in MEANS
    effects: Pooled = field(default_factory=Pooled)
    """Of all listed features that were removed, with --exact."""
    flagged: int = 0
    unchecked: int = 0
    gaps: list[float] = field(default_factory=list)
    """The completeness gap of each pair, with --method=ig."""
    errors: list[tuple[float, float]] = field(default_factory=list)
    """Of each sample: |effect - score|, and the same by relative_size² * error_scale."""

    @classmethod
    def of_run(cls, *, sharded: bool) -> Self:
        """Return empty totals; only a shard has pairs of other shards."""
        outcomes = ("scored", "skipped", "error", *(("elsewhere",) if sharded else ()))
        return cls(dict.fromkeys(outcomes, 0), dict.fromkeys(MEANS, 0.0))

    def add(self, analysis: Analysis) -> None:
        """Add the next analysis."""
        self.counts[outcome(analysis)] += 1
        for name in MEANS if "diagnostics" in analysis else ():
            self.sums[name] += analysis["diagnostics"][name]
        diagnostics = analysis.get("diagnostics", {})
        if exact := diagnostics.get("exact"):
            self._add_exact(exact)
        gap = diagnostics.get("path", {}).get("completeness_gap")
        if gap is not None:
            self.gaps.append(gap)
        with_effect = (listed for listed in analysis.get("top_features", ()) if "effect" in listed)
        removed = [listed for listed in with_effect if listed["score"] or listed["effect"]]
        if removed:
            scores, effects = ([listed[key] for listed in removed] for key in ("score", "effect"))
            self.effects.add(scores, effects)

    def _add_exact(self, exact: dict[str, Any]) -> None:
        self.flagged += exact["flagged"]
        self.unchecked += exact["unchecked"]
        if sample := exact.get("sample"):
            error = abs(sample["effect"] - sample["score"])
            size = sample["relative_size"] ** 2 * exact["error_scale"]
            self.errors.append((error, error / size if size else 0.0))

    def as_json(self) -> dict[str, Any]:
        """Return the means over all scored pairs, and how well scores agree with effects."""
        scored = self.counts["scored"]
        means = {name: total / scored for name, total in self.sums.items() if scored}
        path = {}
        if self.gaps:
            gap = median(self.gaps)
            path["path"] = {"median_gap": gap, "complete": gap <= COMPLETE_GAP}
        if not self.effects.features:
            return {"means": means, **path}
        error, by_size = zip(*self.errors, strict=True) if self.errors else ((), ())
        unchecked = {
            "features": self.unchecked,
            "samples": len(self.errors),
            "coverage": COVERAGE,
            "confidence": CONFIDENCE,
            "error": upper_bound(error),
            "error_by_size": upper_bound(by_size),
        }
        exact = {**self.effects.as_json(), "flagged": self.flagged, "unchecked": unchecked}
        return {"means": means, **path, "exact": exact}


class Recorded(Protocol):
    """The analyses of a run, in a journal or in memory."""

    @property
    def header(self) -> dict[str, Any]:
        """The facts of the run."""

    def all_analyses(self) -> Iterable[Sequence[Analysis]]:
        """Return those of each pair that has some, one for each SAE, in input order."""

    def __len__(self) -> int: ...


def metadata(scan: InputScan, journal: Recorded, finished: str) -> list[dict[str, Any]]:
    """Return `metadata.atp` of each result file; `finished` is the time of the end or the save."""
    total = journal.header["pairs"]
    known = journal.header["facts"]
    saes = known["saes"]
    sharded = known["settings"].get("shard") is not None
    totals_of_saes = [RunTotals.of_run(sharded=sharded) for _ in saes]
    for analyses in journal.all_analyses():
        for totals, analysis in zip(totals_of_saes, analyses, strict=True):
            totals.add(analysis)
    return [
        {
            "complete": len(journal) == total,
            "counts": {
                "questions": scan.questions,
                "pairs": total,
                **totals.counts,
                "pending": total - len(journal),
            },
            **totals.as_json(),
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
            **({"rescored": known["rescored"]} if "rescored" in known else {}),
            "started": journal.header["started"],
            "finished": finished,
        }
        for sae, totals, result in zip(saes, totals_of_saes, journal.header["results"], strict=True)
    ]


def _unsharded(known: Mapping[str, Any], result: str) -> dict[str, str]:
    """Describe the run that has no shards, for `atp merge`."""
    whole = {**known, "settings": {**known["settings"], "shard": None}}
    return {"fingerprint": fingerprint(whole), "result": unsharded(result)}


def now() -> str:
    """Return the time, UTC, in ISO format."""
    return datetime.now(UTC).isoformat(timespec="seconds")
