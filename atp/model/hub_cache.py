"""The files of the hub that this machine has already; uses no network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import orjson
from huggingface_hub import constants

WEIGHTS = (".safetensors", ".bin", ".npz", ".pt")
INDEX = ".index.json"
"""Ends the name of a list of the parts of the weights."""


@dataclass(frozen=True)
class Hub:
    """The settings of this machine for the hub; of the token, which is secret, that it exists."""

    cache: Path
    offline: bool
    token: bool


def hub() -> Hub:
    """Return the settings, from the environment and files."""
    token = huggingface_hub.get_token() is not None
    return Hub(Path(constants.HF_HUB_CACHE), constants.HF_HUB_OFFLINE, token)


def repository_folder(repository: str) -> Path:
    """Return the folder that a repository has, or would have, in the cache."""
    # As huggingface_hub's repo_folder_name, the import of which takes a quarter of a second.
    name = constants.REPO_ID_SEPARATOR.join(["models", *repository.split("/")])
    return Path(constants.HF_HUB_CACHE, name)


def cached_folder(repository: str, revision: str | None) -> Path | None:
    """Return the folder of a repository's commit in the cache; None when it is not there."""
    folder = repository_folder(repository)
    name = revision or constants.DEFAULT_REVISION
    try:
        commit = (folder / "refs" / name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        commit = name
    snapshot = folder / "snapshots" / commit
    return snapshot if os.path.isdir(snapshot) else None  # noqa: PTH112  (False where it is forbidden)


def file_bytes(path: Path) -> int | None:
    """Return the size of a file; None where there is no such file, or it is out of reach."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def weights_bytes(folder: Path) -> int | None:
    """Return the size of the weights in a folder; None where they are missing or not complete."""
    indexes = sorted(folder.glob(f"*{INDEX}"))
    file_sets = [[folder / part for part in _parts(index)] for index in indexes] or [
        [path for path in folder.glob("*") if path.suffix in WEIGHTS]
    ]
    for files in file_sets:
        sizes = [size for file in files if (size := file_bytes(file)) is not None]
        if files and len(sizes) == len(files):
            return sum(sizes)
    return None


def _parts(index: Path) -> set[str]:
    try:
        return parts_of_index(index.read_bytes())
    except OSError:
        return set()


def parts_of_index(content: bytes) -> set[str]:
    """Return the weights files that an index names; none where it is no index of weights."""
    try:
        return set(map(str, orjson.loads(content)["weight_map"].values()))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return set()
