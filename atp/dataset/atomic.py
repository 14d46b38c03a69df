"""Files that are either whole or not there: temporary file in the same folder, fsync, rename."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from atp.errors import SaveError

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
GONE = {errno.ENOENT, errno.ENOTDIR}

HINT = "Free space or mend the folder, then start the same command."


@contextmanager
def atomic_write(path: Path, needed: int | None = None) -> Iterator[IO[bytes]]:
    """Write `path` so that a reader sees the old content or the new one, never a part.

    Args:
        path: the file.
        needed: about how many bytes it will have, to be told when there is no space.

    Raises:
        SaveError: the file cannot be written; what stood there before is untouched.
    """
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False
        ) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
        # A temporary file is private; a result is as readable as the user's umask says.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise not_written(path, error, needed=needed, hint=HINT) from error
    finally:
        if temporary is not None:
            with suppress(OSError):  # the next run clears it away
                temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a new or renamed file survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def not_written(path: Path, error: OSError, *, needed: int | None = None, hint: str) -> SaveError:
    """Return what to tell of a file that could not be written.

    Args:
        path: the file.
        error: what the system said.
        needed: about how many bytes it needs.
        hint: how to mend it.
    """
    reason = error.strerror or str(error)
    if error.errno in GONE:
        reason = f"the folder {path.parent} or the file is no longer there"
    elif error.errno in NO_SPACE:
        size = "" if needed is None else f" it needs about {needed:,} bytes,"
        try:
            free = f" {shutil.disk_usage(path.parent).free:,} bytes are free"
        except OSError:
            free = " how much is free cannot be told"
        reason = f"{reason};{size}{free}"
    return SaveError(f"{path} could not be written: {reason}.", hint)
