"""`atp merge`: finds the shards' results, checks that they make a whole, and writes that.

One result for each SAE. A merge that is there already is told, not written again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from atp.dataset import output
from atp.dataset.source import opened
from atp.errors import ExitCode
from atp.merge import whole
from atp.merge.parts import Part, files_in, groups, newest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

log = structlog.get_logger()


def merge(results: Sequence[Path], out: Path) -> tuple[ExitCode, list[Path]]:
    """Put the shards of a run together.

    Args:
        results: result files of shards; of folders, the newest in them or in the folders in them.
        out: the folder of what is written.

    Returns:
        The exit code, OK or PAIRS_FAILED, and the merged results, one for each SAE.

    Raises:
        InputError: a result is not what it should be, or they do not make a whole.
        SettingsError, BusyError, SaveError: the folder cannot be had, or not be written to.
    """
    named = [path for path in results if not path.is_dir()]
    for path in named:
        with opened(path):
            pass  # whether it is there
    found = [file for path in results if path.is_dir() for file in files_in(path)]
    with output.held(out):
        candidates = [Part.of(path) for path in dict.fromkeys(found)]
        chosen = newest(candidates)
        parts = [*chosen, *(Part.of(path) for path in dict.fromkeys(named))]
        log.info(
            "merge.found",
            shards=[str(part.path) for part in parts],
            left_out=[str(part.path) for part in candidates if part not in chosen],
        )
        written = [_merged(group, out) for group in groups(parts)]
    failed = any(errors for _, errors in written)
    return (ExitCode.PAIRS_FAILED if failed else ExitCode.OK), [path for path, _ in written]


def _merged(parts: Sequence[Part], out: Path) -> tuple[Path, int]:
    """Write the whole of some shards, unless it is there; return where, and how many errors."""
    began = time.monotonic()
    path, told = whole.place(parts, out)
    there = told is not None
    if told is None:
        told = whole.write(parts, path, out)
    counts = told["counts"]
    log.info(
        "merge.done",
        result=str(path),
        pairs=counts["pairs"],
        errors=counts["error"],
        there=there,
        seconds=round(time.monotonic() - began, 3),
    )
    return path, int(counts["error"])
