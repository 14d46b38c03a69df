"""The files of parts: whether they are as the index describes them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from atp.vectors.index import PartEntry

OTHER_HASH = "its sha256 is not that of the index"


def damage_of(folder: Path, part: PartEntry) -> str | None:
    """Return what is wrong with a part's file; None if it is whole."""
    try:
        with (folder / part.name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        return "it is missing" if isinstance(error, FileNotFoundError) else str(error.strerror)
    return damage(part, size, digest)


def damage(part: PartEntry, size: int, sha256: str) -> str | None:
    """Return in what a file of this size and hash differs from the part; None if in nothing."""
    if size != part.size:
        return f"it has {size:,} bytes, not {part.size:,}"
    return None if sha256 == part.sha256 else OTHER_HASH
