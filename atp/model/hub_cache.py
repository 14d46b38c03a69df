"""What of the hub is on this machine already; fetches nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import huggingface_hub
import orjson
from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

if TYPE_CHECKING:
    from collections.abc import Iterable

WEIGHTS = (".safetensors", ".bin", ".npz", ".pt")
INDEX = ".index.json"
"""Ends the name of a file that lists the parts of the weights."""


@dataclass(frozen=True)
class Hub:
    """How this machine stands to the hub."""

    cache: Path
    offline: bool
    """HF_HUB_OFFLINE is set: nothing can be fetched."""
    token: bool
    """Whether there is one; the token itself is nobody's business."""


def hub() -> Hub:
    """Return it; reads the environment and files, no network."""
    token = huggingface_hub.get_token() is not None
    return Hub(Path(constants.HF_HUB_CACHE), constants.HF_HUB_OFFLINE, token)


def repository_folder(repository: str) -> Path:
    """Return the folder that a repository has, or would have, in the cache."""
    name = repo_folder_name(repo_id=repository, repo_type="model")
    return Path(constants.HF_HUB_CACHE) / name


def cached_folder(repository: str, revision: str | None) -> Path | None:
    """Return the folder of a repository's commit in the cache; None when it is not there."""
    folder = repository_folder(repository)
    wanted = revision or "main"
    try:
        commit = (folder / "refs" / wanted).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        commit = wanted
    found = folder / "snapshots" / commit
    return found if os.path.isdir(found) else None  # noqa: PTH112  (False where it is forbidden)


def weights_bytes(folder: Path) -> int | None:
    """Return the size of the weights in a folder; None where they are missing or not complete."""
    for index in sorted(folder.glob(f"*{INDEX}")):
        parts = _parts(index)
        if parts and all((folder / part).is_file() for part in parts):
            return _size(folder / part for part in parts)
    if any(folder.glob(f"*{INDEX}")):
        return None
    files = [path for path in sorted(folder.glob("*")) if path.suffix in WEIGHTS]
    return _size(files) if files else None


def _parts(index: Path) -> set[str]:
    """Return the files that an index names."""
    try:
        content: dict[str, Any] = orjson.loads(index.read_bytes())
        return set(map(str, content["weight_map"].values()))
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return set()


def _size(files: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in files)
