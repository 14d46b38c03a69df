"""`atp features`: finds the results, selects features, and writes the tables."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from atp.dataset import output
from atp.dataset.atomic import write_files
from atp.errors import SettingsError
from atp.features import files
from atp.features.aggregation import aggregate
from atp.features.exports import LM_EVAL, exported
from atp.features.joint import joint_effects
from atp.features.results import found_in
from atp.runtime.live import phase

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from atp.config.selection import SelectionSettings

log = structlog.get_logger()


def features(
    results: Sequence[Path], out: Path, settings: SelectionSettings
) -> tuple[list[Path], SettingsError | None]:
    """Aggregate scored pairs, select features, and write the tables into the folder `out`.

    Return the files (exports, CSV, Parquet, JSON), and the error to end with where no feature is
    selected.
    """
    began = time.monotonic()
    taken, left_out = found_in(results)  # a wrong name leaves no folder behind
    with output.held(out):
        log.info(
            "features.found",
            results=[str(result.path) for result in taken],
            left_out=[str(path) for path in left_out],
            errors=sum(result.metadata["counts"]["error"] for result in taken),
        )
        with phase("aggregating the scored pairs"):
            found = aggregate(taken, settings)
        exports = exported(found, settings.export)
        joint = joint_effects(found) if settings.joint_effect else {}
        now = datetime.now(UTC)
        run = output.run_name(out, taken[0].metadata["model"]["name"], now)
        created = now.isoformat(timespec="seconds")
        paths = write_files(out, f"atp_export_{run}", exports)
        paths += files.write(found, joint, out, f"atp_features_{run}", created)
    if settings.min_log_ratio is not None and found.without_ratio:
        reason = "selected without --min-log-ratio, which needs atp run --prompt-activations"
        log.warning("features.no_ratio", saes=found.without_ratio, reason=reason)
    if LM_EVAL in exports and any(len(sae.selection.selected) > 1 for sae in found.saes):
        strongest = {sae.name: sae.selection.selected[:1] for sae in found.saes}
        reason = "lm-eval removes one feature of each SAE, that of its last row: the strongest"
        log.warning("features.lm_eval", strongest=strongest, reason=reason)
    for sae in found.saes:
        selection = sae.selection
        if selection.selected:
            log.info(
                "features.selected",
                sae=sae.name,
                pairs=sae.pairs,
                features=sae.table["feature"].nunique(),
                selected=len(selection.selected),
                strongest=selection.selected[:10],
                **({"joint": joint[sae.name]} if sae.name in joint else {}),
            )
        else:
            log.warning("features.none", sae=sae.name, reason=selection.reason)
    log.info("features.done", result=str(paths[-1]), seconds=round(time.monotonic() - began, 3))
    if any(sae.selection.selected for sae in found.saes):
        return paths, None
    reasons = "; ".join(
        f"{sae.name}: {sae.selection.reason}" if len(found.saes) > 1 else sae.selection.reason
        for sae in found.saes
    )
    msg = f"no feature is selected: {reasons}. The tables are in {out}."
    return paths, SettingsError(msg, "Look at them, and lower the threshold that took most.")
