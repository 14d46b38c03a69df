"""The output folder: who may write there, and how its files are named."""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from atp.errors import BusyError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LOCK_NAME = ".atp.lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the output folder and hold it for this process alone.

    Raises:
        SettingsError: it cannot be made or written to.
        BusyError: another run holds it.
    """
    lock = FileLock(folder / LOCK_NAME)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        msg = f"another run is writing to {folder}."
        raise BusyError(msg, "Wait for it, or give this run its own --out=DIR.") from error
    except OSError as error:
        msg = f"the output folder {folder} cannot be written to: {error.strerror or error}."
        raise SettingsError(
            msg, "Choose another with --out=DIR, or mend its permissions."
        ) from error
    try:
        for left_over in folder.glob(".atp_*.tmp"):  # of a run that was killed
            left_over.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def run_name(folder: Path, model: str, now: datetime | None = None) -> str:
    """Return "<model>_<YYYYMMDD_HHMMSS>" (UTC), not taken yet in `folder`."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", model.rpartition("/")[2]) or "model"
    time = now or datetime.now(UTC)
    while list(folder.glob(f"atp_*_{plain}_*{time:%Y%m%d_%H%M%S}*")):
        time += timedelta(seconds=1)
    return f"{plain}_{time:%Y%m%d_%H%M%S}"


def result_names(run: str, labels: Sequence[str]) -> list[str]:
    """Return the names of a run's result files: with several SAEs, each carries a label."""
    model, date, time = run.rsplit("_", 2)
    if len(labels) == 1:
        return [f"atp_results_{model}_{date}_{time}.json"]
    return [f"atp_results_{model}_{label}_{date}_{time}.json" for label in _distinct(labels)]


def _distinct(labels: Sequence[str]) -> list[str]:
    """Return labels in which a repeated one carries its number."""
    return [
        f"{label}-{labels[:i].count(label) + 1}" if labels.count(label) > 1 else label
        for i, label in enumerate(labels)
    ]
