"""Names of models and SAEs: what can be said of them before anything heavy is imported.

torch takes 2.6 s to import and SAELens 8 s; a misspelt name should not cost its user that.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import yaml

from atp.errors import SettingsError, UnavailableError, did_you_mean

EXAMPLE = "gemma-scope-9b-it-res-canonical:layer_31/width_16k/canonical"


def is_local(name: str) -> bool:
    """Say whether a model name means a folder or a file of this machine."""
    looks_local = name.startswith(("/", "./", "../", "~")) or name.endswith(".gguf")
    return looks_local or Path(name).expanduser().exists()


def check_model_name(name: str) -> None:
    """Check what can be checked about a model name without loading anything.

    Raises:
        SettingsError: a local path that holds no model, or no possible hub name.
    """
    if not is_local(name):
        if name.count("/") > 1 or name.endswith("/"):
            msg = f"--model={name} is neither a hub name (owner/name) nor a folder or file here."
            raise SettingsError(msg)
        return
    path = Path(name).expanduser()
    if not path.exists():
        msg = f"--model={name} does not exist."
        raise SettingsError(msg, "Name a hub model, a Hugging Face folder or a GGUF file.")
    if path.is_dir() and not (path / "config.json").is_file():
        msg = f"--model={name} holds no config.json."
        raise SettingsError(msg, "Name a folder in Hugging Face format, or the GGUF file itself.")
    if path.is_file() and path.suffix != ".gguf":
        msg = f"--model={name} is a file, but not a GGUF file."
        raise SettingsError(msg, "Name a hub model, a Hugging Face folder or a GGUF file.")


def split_spec(spec: str) -> tuple[str, str] | None:
    """Return (release, sae_id) of "RELEASE:SAE_ID", or None when `spec` is a folder."""
    if Path(spec).expanduser().is_dir() or spec.startswith(("/", "./", "../", "~")):
        return None
    release, colon, sae_id = spec.partition(":")
    return (release, sae_id) if colon else None


def check_sae_spec(spec: str) -> None:
    """Check what can be checked about an SAE's name without importing SAELens (8 s).

    Raises:
        SettingsError: no such folder, release or id; lists near ones.
    """
    named = split_spec(spec)
    if named is None:
        folder = Path(spec).expanduser()
        if not folder.is_dir():
            msg = f"--sae={spec} is neither RELEASE:SAE_ID nor a folder here."
            raise SettingsError(msg, f"Write for example --sae={EXAMPLE}.")
        for name in ("cfg.json", "sae_weights.safetensors"):
            if not (folder / name).is_file():
                msg = f"--sae={spec} holds no {name}."
                raise SettingsError(msg, "Name a folder as SAELens writes it (save_model).")
        return
    release, sae_id = named
    directory = _directory_text()
    releases = re.findall(r"^(\S+):$", directory, re.MULTILINE)
    if release not in releases:
        if "/" in release:  # a hub repository that is not in the directory
            return
        msg = f"--sae={spec}: SAELens knows no release {release!r}."
        raise SettingsError(msg, did_you_mean(release, releases))
    block = re.split(rf"^{re.escape(release)}:$", directory, maxsplit=1, flags=re.MULTILINE)[1]
    block = re.split(r"^\S", block, maxsplit=1, flags=re.MULTILINE)[0]
    ids = [str(entry["id"]) for entry in yaml.safe_load(block)["saes"]]
    if sae_id not in ids:
        msg = f"--sae={spec}: the release has no SAE {sae_id!r}."
        raise SettingsError(msg, did_you_mean(sae_id, ids) or f"It has {', '.join(ids[:5])} ...")


def _directory_text() -> str:
    """Return SAELens' list of releases, read from its package without importing it."""
    package = find_spec("sae_lens")
    if package is None or not package.submodule_search_locations:
        msg = "the package sae_lens is not installed."
        raise UnavailableError(msg, "Run `make install`.")
    folder = Path(package.submodule_search_locations[0])
    return (folder / "pretrained_saes.yaml").read_text(encoding="utf-8")
