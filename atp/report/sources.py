"""What `atp report` reads: results of `atp run`, and reports of `atp intervene`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from atp.dataset.result_files import NOT_AS_WRITTEN, metadata_of
from atp.errors import InputError
from atp.features.results import last_runs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from atp.dataset.result_files import ResultFile

REPORTS = ("atp_intervention_*.json", "atp_comparison_*.json")
LARGE = 1 << 24  # bytes: no comparison has as many
RESPONSES = ("_before.json", "_after.json")  # how the files of regenerated responses end


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
    for folder in (path for path in results if path.is_dir()):
        finished = max(each.path.stat().st_mtime for each in taken)
        for pattern in REPORTS:
            files = [path for path in folder.glob(pattern) if not path.name.endswith(RESPONSES)]
            newest = max(files, key=lambda file: file.stat().st_mtime, default=None)
            if newest is not None and newest.stat().st_mtime >= finished:
                reports.append(newest)
    return taken, [read_intervention(path) for path in dict.fromkeys(reports)], left_out


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
        if "overall" not in content:
            _ = content["summary"]["selected"]["mean_change"], content["pairs"][:0]
            _ = content["metadata"]["atp"]["settings"]
    except NOT_AS_WRITTEN as error:
        msg = f"{path} is not as atp intervene writes it."
        raise InputError(msg, "Run atp intervene again.") from error
    return Intervention(path, content)
