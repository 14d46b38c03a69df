"""`atp features`: finds the results, selects features, and writes the tables."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from atp.dataset import output
from atp.errors import SettingsError
from atp.features import files
from atp.features.aggregation import features_of
from atp.features.results import found_in

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from atp.config.selection import SelectionSettings
    from atp.features.aggregation import Features

log = structlog.get_logger()


def features(
    results: Sequence[Path], out: Path, choice: SelectionSettings
) -> tuple[list[Path], SettingsError | None]:
    """Aggregate scored pairs, select features, and write what was found.

    Args:
        results: result files; of a folder, the last run in it.
        out: the folder of what is written.
        choice: thresholds and resampling.

    Returns:
        The files (CSV, Parquet, JSON), and what to end with where no feature is selected.

    Raises:
        InputError: a result is not what it should be, or they do not go together.
        SettingsError, BusyError, SaveError: the folder cannot be had, or not be written to.
    """
    began = time.monotonic()
    with output.held(out):
        taken, left_out = found_in(results)
        log.info(
            "features.found",
            results=[str(result.path) for result in taken],
            left_out=[str(path) for path in left_out],
            errors=sum(result.metadata["counts"]["error"] for result in taken),
        )
        found = features_of(taken, choice)
        now = datetime.now(UTC)
        run = output.run_name(out, taken[0].metadata["model"]["name"], now)
        created = now.isoformat(timespec="seconds")
        paths = files.write(found, out, f"atp_features_{run}", created)
    _tell(found)
    log.info("features.done", result=str(paths[-1]), seconds=round(time.monotonic() - began, 3))
    return paths, _nothing_selected(found, paths[-1])


def _tell(found: Features) -> None:
    """Log what was found of each SAE."""
    for each in found.saes:
        if each.selected:
            log.info(
                "features.selected",
                sae=each.name,
                pairs=each.pairs,
                features=each.table["feature"].nunique(),
                selected=len(each.selected),
                strongest=each.selected[:10],
            )
        else:
            log.warning("features.none", sae=each.name, reason=each.selection.reason)


def _nothing_selected(found: Features, path: Path) -> SettingsError | None:
    """Return what to end with where no SAE has a selected feature."""
    if any(each.selected for each in found.saes):
        return None
    reasons = "; ".join(
        f"{each.name}: {each.selection.reason}" if len(found.saes) > 1 else each.selection.reason
        for each in found.saes
    )
    msg = f"no feature is selected: {reasons}. The tables are in {path.parent}."
    return SettingsError(msg, "Look at them, and lower the threshold that took most.")
