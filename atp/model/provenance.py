"""The pin of weights: the commit of a hub repository, or one sha256 over local files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from atp.errors import UnavailableError

DECIDING_SUFFIXES = {".safetensors", ".bin", ".gguf", ".pt", ".json", ".jinja", ".model", ".txt"}
"""Of files that decide a model's numbers: weights, configuration, tokenizer, chat template."""


def local_origin(path: Path) -> dict[str, str]:
    """Return {"sha256": ...} of a weights file, or of the names and hashes of a folder's files."""
    if path.is_file():
        return {"sha256": sha256_of(path)}
    files = sorted(file for file in path.iterdir() if file.suffix in DECIDING_SUFFIXES)
    lines = "".join(f"{sha256_of(file)}  {file.name}\n" for file in files)
    return {"sha256": hashlib.sha256(lines.encode()).hexdigest()}


def hub_commit(repository: str, revision: str | None) -> str:
    """Return the commit of a model that is in the hub cache."""
    cached = try_to_load_from_cache(repository, "config.json", revision=revision)
    if not isinstance(cached, str):
        msg = f"the hub cache holds no config.json of {repository}, so its commit is unknown."
        raise UnavailableError(msg, "Check HF_HOME and HF_HUB_CACHE.")
    return Path(cached).parent.name


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
