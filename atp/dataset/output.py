"""The output folder: which process may write there, and the names of its files.

A file lock keeps other runs out; the system releases it when the process ends. A note beside it
names the holder. A run that was killed leaves its note behind.
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
import structlog
from filelock import FileLock, Timeout

from atp.dataset.atomic import atomic_write
from atp.errors import BusyError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from atp.config.shard import Shard

LOCK_NAME, HOLDER_NAME = ".atp.lock", ".atp.holder.json"
WAIT_SECONDS = 0.2  # a process that only tests whether a folder is held takes its lock briefly

log = structlog.get_logger()


@dataclass(frozen=True)
class Holder:
    """The process that writes to a folder."""

    pid: int  # as its own machine or container counts
    host: str
    started: str  # when it took the folder: UTC, ISO format

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.started}"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the output folder and hold it for this process alone, or raise an AtpError."""
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
        hint = "Choose another with --out=DIR, or repair its permissions."
        raise SettingsError(msg, hint) from error
    try:
        if (killed := holder(folder)) is not None:
            log.warning("lock.taken", holder=str(killed))
        for left_over in (*folder.glob(".atp_*.tmp"), *folder.glob(f".{HOLDER_NAME}.*.tmp")):
            left_over.unlink(missing_ok=True)  # a killed run was writing it
        started = datetime.now(UTC).isoformat(timespec="seconds")
        content = orjson.dumps(Holder(os.getpid(), platform.node(), started))
        with atomic_write(note, len(content)) as file:
            file.write(content)
        yield
    finally:
        with suppress(OSError):  # the folder may have been removed
            note.unlink(missing_ok=True)
        lock.release()


def holder(folder: Path) -> Holder | None:
    """Return the process that holds a folder, or held it and was killed; None if unknown."""
    try:
        return Holder(**orjson.loads((folder / HOLDER_NAME).read_bytes()))
    except (OSError, orjson.JSONDecodeError, TypeError):
        return None


def run_name(
    folder: Path, model: str, now: datetime | None = None, shard: Shard | None = None
) -> str:
    """Return "<model>[_shard0of4]_<YYYYMMDD_HHMMSS>" (UTC), a name not yet used in `folder`."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", model.rpartition("/")[2]) or "model"
    time = now or datetime.now(UTC)
    while list(folder.glob(f"atp_*_{plain}_*{stamp(time)}*")):
        time += timedelta(seconds=1)
    return "_".join([plain, *([] if shard is None else [shard.label]), stamp(time)])


def stamp(time: datetime) -> str:
    """Return a time as file names write it."""
    return f"{time:%Y%m%d_%H%M%S}"


def result_names(run: str, labels: Sequence[str]) -> list[str]:
    """Return the names of a run's result files; of several SAEs, each carries its label."""
    if len(labels) == 1:
        return [f"atp_results_{run}.json"]
    model = unsharded(run)
    names = []
    for i, label in enumerate(labels):
        number = f"-{labels[:i].count(label) + 1}" if labels.count(label) > 1 else ""
        names.append(f"atp_results_{model}_{label}{number}{run.removeprefix(model)}.json")
    return names


def unsharded(result: str) -> str:
    """Return the name of a shard's result file without shard and time."""
    return re.sub(r"(_shard[0-9]+of[0-9]+)?_[0-9]{8}_[0-9]{6}(\.json)?\Z", "", result)
