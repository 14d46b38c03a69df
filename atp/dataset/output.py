"""The output folder: who may write there, and how its files are named.

A lock that the system gives back when its process ends keeps other runs out. Beside it stands who
holds it, for those who are kept out; what is left there of a process that was killed says so.
"""

from __future__ import annotations

import os
import platform
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import orjson
from filelock import FileLock, Timeout

from atp.dataset.atomic import atomic_write
from atp.errors import BusyError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from atp.config.shard import Shard

LOCK_NAME, HOLDER_NAME = ".atp.lock", ".atp.holder.json"

WAIT_SECONDS = 0.2
"""Somebody who only looks whether a folder is held has its lock for a moment."""


@dataclass(frozen=True)
class Holder:
    """The process that writes to a folder."""

    pid: int
    """As its own machine or container counts."""
    host: str
    started: str
    """When it took the folder: UTC, ISO format."""

    def __str__(self) -> str:
        """Return how messages name it."""
        return f"process {self.pid} on {self.host}, since {self.started}"


@contextmanager
def held(folder: Path) -> Iterator[Holder | None]:
    """Make the output folder and hold it for this process alone.

    Yields:
        The process that held it before and was killed, if that is how it ended.

    Raises:
        SettingsError: it cannot be made or written to.
        BusyError: another run holds it; says which.
        SaveError: the disk is full.
    """
    lock = FileLock(folder / LOCK_NAME)
    note = folder / HOLDER_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=WAIT_SECONDS, poll_interval=0.02)
    except Timeout as error:
        who = holder(folder)
        msg = f"another run is writing to {folder}{f': {who}' if who else ''}."
        hint = "Wait for it, or give this run its own --out=DIR, as each shard needs one."
        raise BusyError(msg, hint) from error
    except OSError as error:
        msg = f"the output folder {folder} cannot be written to: {error.strerror or error}."
        raise SettingsError(
            msg, "Choose another with --out=DIR, or mend its permissions."
        ) from error
    try:
        killed = holder(folder)
        for left_over in (*folder.glob(".atp_*.tmp"), *folder.glob(f".{HOLDER_NAME}.*.tmp")):
            left_over.unlink(missing_ok=True)  # of a run that was killed
        started = datetime.now(UTC).isoformat(timespec="seconds")
        content = orjson.dumps(Holder(os.getpid(), platform.node(), started))
        with atomic_write(note, len(content)) as file:
            file.write(content)
        yield killed
    finally:
        with suppress(OSError):  # the folder may be gone by now
            note.unlink(missing_ok=True)
        lock.release()


def holder(folder: Path) -> Holder | None:
    """Return who holds a folder, or held it and was killed; None when that is not known."""
    try:
        return Holder(**orjson.loads((folder / HOLDER_NAME).read_bytes()))
    except (OSError, orjson.JSONDecodeError, TypeError):
        return None


def run_name(
    folder: Path, model: str, now: datetime | None = None, shard: Shard | None = None
) -> str:
    """Return "<model>[_shard0of4]_<YYYYMMDD_HHMMSS>" (UTC), not taken yet in `folder`."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", model.rpartition("/")[2]) or "model"
    time = now or datetime.now(UTC)
    while list(folder.glob(f"atp_*_{plain}_*{stamp(time)}*")):
        time += timedelta(seconds=1)
    return "_".join([plain, *([] if shard is None else [shard.label]), stamp(time)])


def stamp(time: datetime) -> str:
    """Return a time as file names have it."""
    return f"{time:%Y%m%d_%H%M%S}"


def result_names(run: str, labels: Sequence[str]) -> list[str]:
    """Return the names of a run's result files: with several SAEs, each carries a label."""
    model, rest = _split(run)
    if len(labels) == 1:
        return [f"atp_results_{run}.json"]
    return [f"atp_results_{model}_{label}{rest}.json" for label in _distinct(labels)]


def unsharded(result: str) -> str:
    """Return what the names of a shard's result file and of a whole run's have in common."""
    return _split(result.removesuffix(".json"))[0]


def _split(run: str) -> tuple[str, str]:
    """Return a run's name up to its shard and time, and these."""
    found = re.fullmatch(r"(.*?)((?:_shard[0-9]+of[0-9]+)?_[0-9]{8}_[0-9]{6})", run)
    if found is None:
        msg = f"{run} is not the name of a run"
        raise ValueError(msg)
    return found[1], found[2]


def _distinct(labels: Sequence[str]) -> list[str]:
    """Return labels in which a repeated one carries its number."""
    return [
        f"{label}-{labels[:i].count(label) + 1}" if labels.count(label) > 1 else label
        for i, label in enumerate(labels)
    ]
