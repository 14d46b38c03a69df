"""The output folder: whether a run can write there, which run does now, what earlier runs saved."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

from atp.dataset import output
from atp.dataset.journal import SUFFIX, Journal
from atp.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path


def inspect_folder(folder: Path) -> dict[str, Any]:
    """Return the state of an output folder, or raise SettingsError; creates and leaves nothing."""
    try:
        with tempfile.TemporaryFile(dir=_nearest_existing(folder)):  # has no name: nothing is left
            pass
    except OSError as error:
        msg = f"the output folder {folder} cannot be written to: {error.strerror or error}."
        hint = "Choose another with --out=DIR, or correct its permissions."
        raise SettingsError(msg, hint) from error
    return {
        "path": str(folder),
        "writable": True,
        "free_bytes": free_disk_bytes(folder),
        "held_by": _held_by(folder),
    }


def free_disk_bytes(folder: Path) -> int | None:
    """Return the free space of the disk that a folder is on, or would be; None if unknown."""
    try:
        return shutil.disk_usage(_nearest_existing(folder)).free
    except OSError:
        return None


def _nearest_existing(folder: Path) -> Path:
    whole = folder.absolute()
    return next((path for path in (whole, *whole.parents) if os.path.lexists(path)), whole)


def _held_by(folder: Path) -> str | None:
    try:
        lock = os.open(folder / output.LOCK_NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # closing the file releases it at once
    except OSError:
        return str(output.holder(folder) or "another run")
    finally:
        os.close(lock)
    return None


def earlier_runs(folder: Path, sha256: str) -> list[dict[str, Any]]:
    """Return the journals of an input, and those whose first line is damaged, oldest first."""
    runs: list[dict[str, Any]] = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            contents = Journal.inspect(path)
        except OSError as error:
            runs.append({"journal": str(path), "unreadable": error.strerror or str(error)})
            continue
        header = contents.header or {}
        facts = header.get("facts", {})
        if contents.header is not None and facts.get("input", {}).get("sha256") != sha256:
            continue
        runs.append(
            {
                "journal": str(path),
                "model": facts.get("model", {}).get("name"),
                "shard": facts.get("settings", {}).get("shard"),
                "started": header.get("started"),
                "ended": contents.ended,
                "pairs": len(contents.offsets),
                "failed": len(contents.failed),
                "header_damaged": contents.header is None,
                "damaged_lines": [damage.line for damage in contents.damaged],
                "torn_bytes": contents.torn,
            }
        )
    return runs
