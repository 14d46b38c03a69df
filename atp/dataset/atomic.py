"""Files that are either whole or not there: temporary file in the same folder, fsync, rename."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from atp.errors import SaveError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Write `path` so that a reader sees the old content or the new one, never a part.

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
        msg = f"{path} could not be written: {error.strerror or error}."
        raise SaveError(
            msg, "Free space or mend the folder, then start the same command."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a new or renamed file survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
