"""What `atp report` reads: results of `atp run`, and reports of `atp intervene`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from atp.dataset.output import stamp
from atp.dataset.result_files import NOT_AS_WRITTEN, metadata_of
from atp.errors import InputError
from atp.features.results import last_runs
from atp.intervention.report import as_text, comparison_as_text
from atp.report.chart_tables import changes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from atp.dataset.result_files import ResultFile

REPORTS = ("atp_intervention_*.json", "atp_comparison_*.json")
LARGE = 1 << 24  # bytes: no comparison has as many
STARTED = re.compile(r"_\d{8}_\d{6}\Z")  # ends a report's name; responses have more behind it


@dataclass(frozen=True)
class Intervention:
    """A report of `atp intervene`."""

    path: Path
    content: dict[str, Any]

    @property
    def is_comparison(self) -> bool:
        """Whether it compares the flags of responses."""
        return "overall" in self.content


def found_in(paths: Sequence[Path]) -> tuple[list[ResultFile], list[Intervention], list[Path]]:
    """Return results, interventions, and the results of earlier runs that are left out.

    A path is a result, a report of `atp intervene`, or a folder: of that the last run is taken,
    and the newest report of each kind that is later than the run.

    Raises:
        InputError: a file is neither, or a folder holds no result.
    """
    named = {path: _is_report(path) for path in dict.fromkeys(paths) if not path.is_dir()}
    reports = [path for path, is_report in named.items() if is_report]
    results = [path for path in dict.fromkeys(paths) if path not in reports]
    taken, left_out = last_runs(results, "report")
    for result in taken:
        check_metadata(result)
    for folder in (path for path in results if path.is_dir()):
        runs = [each.started for each in taken if folder in each.path.parents]
        for pattern in REPORTS if runs else ():  # none: another name of the folder has them
            files = [path for path in folder.glob(pattern) if STARTED.search(path.stem)]
            newest = max(files, key=_started, default=None)
            if newest is not None and _started(newest) >= stamp(max(runs)):
                reports.append(newest)
    return taken, [read_intervention(path) for path in dict.fromkeys(reports)], left_out


def check_metadata(result: ResultFile) -> None:
    """Refuse metadata that a page cannot show; a field that old versions did not write may lack."""
    metadata = result.metadata
    exact, path = metadata.get("exact") or {}, metadata.get("path") or {}
    try:
        _ = metadata["versions"], metadata["sae"]["spec"]
        numbers = [metadata["sae"]["d_sae"], *metadata.get("means", {}).values()]
        numbers += [exact["features"]] if exact else []
        if exact.get("pearson") is not None:
            numbers += [exact["pearson"], exact["sign_agreement"]]
        if not path.get("complete", True):
            numbers.append(path["median_gap"])
        math.fsum(numbers)
    except NOT_AS_WRITTEN as error:
        msg = f"{result.path}: its metadata.atp is not as atp writes it: {error!r}."
        raise InputError(msg, "Run it again with --fresh.") from error


def _started(report: Path) -> str:
    """Return when a report was started, by its name: a copied file has the time of the copy."""
    return report.stem[-len("20260131_120000") :]


def _is_report(path: Path) -> bool:
    """Return whether a file is a report of `atp intervene`; it may be no result, either."""
    if _is_comparison(path):
        return True
    try:
        metadata = metadata_of(path)
    except NOT_AS_WRITTEN:
        return False  # read_result says what it is not
    if "selection" in metadata:
        msg = f"{path} is a file of atp features."
        raise InputError(msg, f"Name the results; --config={path} takes its thresholds.")
    return "counts" not in metadata and "features" in metadata


def _is_comparison(path: Path) -> bool:
    """Return whether a file is a report of `--compare`, which has no metadata."""
    try:
        small = path.stat().st_size < LARGE
        return small and {"files", "overall"} <= orjson.loads(path.read_bytes()).keys()
    except (OSError, ValueError, AttributeError):
        return False


def read_intervention(path: Path) -> Intervention:
    """Read a report of `atp intervene`, or raise an InputError."""
    try:
        content = orjson.loads(path.read_bytes())
        found = Intervention(path, content)
        _use(found)
    except NOT_AS_WRITTEN as error:
        msg = f"{path} is not as atp intervene writes it."
        raise InputError(msg, "Run atp intervene again.") from error
    return found


def _use(intervention: Intervention) -> None:
    """Use all that a page shows of a report; raise one of NOT_AS_WRITTEN where it is missing."""
    content = intervention.content
    if intervention.is_comparison:
        comparison_as_text(content)
        return
    as_text(content)
    changes(content["summary"])
    content["metadata"]["atp"]["input"]["sha256"]
    for pair in content["pairs"]:
        texts = (pair["pair"], pair.get("target_token", ""), pair.get("base_token", ""))
        numbers = (pair.get(name) or 0.0 for name in ("before", "after", "change"))
        _ = "".join(texts), math.fsum(numbers)
