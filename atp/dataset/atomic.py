"""Files that are either whole or not there: temporary file in the same folder, fsync, rename."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from atp.errors import SaveError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
GONE = {errno.ENOENT, errno.ENOTDIR}

HINT = "Free space or repair the folder, then start the same command."


@contextmanager
def atomic_write(path: Path, needed: int | None = None) -> Iterator[IO[bytes]]:
    """Write a file whole or not at all; the SaveError of a full disk states the `needed` bytes."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        # Mode "x" creates the file, and the user's umask decides who may read it.
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise not_written(path, error, needed=needed, hint=HINT) from error
    finally:
        with suppress(OSError):  # the next run removes it
            temporary.unlink(missing_ok=True)


def write_files(folder: Path, name: str, contents: Mapping[str, bytes]) -> list[Path]:
    """Write a file for each ending, one after the other; return their paths."""
    paths = [folder / f"{name}.{ending}" for ending in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        with atomic_write(path, len(content)) as file:
            file.write(content)
    return paths


def sync_folder(folder: Path) -> None:
    """Make a new or renamed file survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def not_written(path: Path, error: OSError, *, needed: int | None = None, hint: str) -> SaveError:
    """Return the error for a file of about `needed` bytes that the system refused to write."""
    reason = error.strerror or str(error)
    if error.errno in GONE:
        reason = f"the folder {path.parent} or the file no longer exists"
    elif error.errno in NO_SPACE:
        size = "" if needed is None else f" it needs about {needed:,} bytes,"
        try:
            free = f" {shutil.disk_usage(path.parent).free:,} bytes are free"
        except OSError:
            free = " the free space is unknown"
        reason = f"{reason};{size}{free}"
    return SaveError(f"{path} could not be written: {reason}.", hint)
