"""Which published dictionaries are in the hub cache of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atp.model.dictionaries.files import files_of
from atp.model.hub_cache import cached_folder

if TYPE_CHECKING:
    from pathlib import Path

    from atp.model.dictionaries.files import Published


def cached_files(published: Published) -> list[Path] | None:
    """Return a dictionary's files in the hub cache; None unless all that it needs are there."""
    commit = cached_folder(published.repository, None)
    if commit is None:
        return None
    files = [commit / name for name in files_of(published, lambda name: (commit / name).is_file())]
    return files if all(file.is_file() for file in files) else None
