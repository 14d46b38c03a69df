"""`atp merge`: puts the shards of a run together, one result for each SAE, unless it exists."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from atp.dataset import output
from atp.errors import ExitCode
from atp.merge import whole
from atp.merge.parts import found_in, groups

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

log = structlog.get_logger()


def merge(results: Sequence[Path], out: Path) -> tuple[ExitCode, list[Path]]:
    """Put the shards of a run together, and write the merged results into the folder `out`.

    Of a folder in `results`, the newest shards in it and in the folders in it are taken. The exit
    code is OK or PAIRS_FAILED; the paths are of the merged results, one for each SAE.
    """
    parts, left_out = found_in(results)
    code, merged = ExitCode.OK, []
    with output.held(out):
        log.info(
            "merge.found",
            shards=[str(part.path) for part in parts],
            left_out=[str(part.path) for part in left_out],
        )
        for shards in groups(parts, left_out):
            began = time.monotonic()
            totals = whole.read(shards)
            path, there = whole.place(shards, out)
            if not there:
                whole.write(shards, totals, path)
            errors = totals.counts["error"]
            if errors:
                code = ExitCode.PAIRS_FAILED
            merged.append(path)
            log.info(
                "merge.done",
                result=str(path),
                pairs=shards[0].metadata["counts"]["pairs"],
                errors=errors,
                there=there,
                seconds=round(time.monotonic() - began, 3),
            )
    return code, merged
