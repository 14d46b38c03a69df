"""Names of SAEs: RELEASE:SAE_ID of SAELens, folders, and patterns that mean several of either."""

from __future__ import annotations

import glob
import os
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import orjson

from atp.errors import SettingsError, did_you_mean
from atp.model.dictionaries.files import Published
from atp.model.dictionaries.refusals import UNSUITED, refusal
from atp.model.dictionaries.registry import NEURONPEDIA, OWN_FORMAT, find_release, release_names
from atp.model.hook_names import layer_of
from atp.runtime.paths import local_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from atp.model.dictionaries.registry import Release

EXAMPLE = "gemma-scope-9b-it-res-canonical:layer_31/width_16k/canonical"


def expand_sae_specs(specs: Sequence[str]) -> tuple[str, ...]:
    """Return the SAEs that names and patterns mean, each once, in the place of its first mention.

    A pattern holds *, ? or [..], and means the ids of its release, or the folders here, that match
    it, in natural order: layer_2 before layer_10. It matches as in a shell: case counts, and no
    wildcard matches a slash or the dot at the start of a folder's name. Brackets in the name of a
    folder that exists are no pattern. A SettingsError for no match lists near names.
    """
    once: dict[str | Path, str] = {}
    for spec in specs:
        named, names = split_spec(spec), [spec]
        if re.search(r"[*?[]", spec) and not _is_folder(local_path(spec)):
            names = _matching_folders(spec) if named is None else _matching_ids(spec, *named)
        for name in sorted(names, key=_natural):
            folder = local_path(name)
            once.setdefault(folder.resolve() if _is_folder(folder) else name, name)
    return tuple(once.values())


def split_spec(spec: str) -> tuple[str, str] | None:
    """Return (release, sae_id) of "RELEASE:SAE_ID", or None when `spec` is a folder."""
    if _is_folder(local_path(spec)) or spec.startswith(("/", "./", "../", "~")):
        return None
    release, colon, sae_id = spec.partition(":")
    return (release, sae_id) if colon else None


def check_sae_spec(spec: str) -> str | None:
    """Check an SAE's name, and return its model's; raises SettingsError, which lists near names."""
    named = split_spec(spec)
    if named is None:
        return _check_sae_folder(spec, local_path(spec))
    listed, sae_id = _listed(spec, named[0]), named[1]
    if listed is None:
        return None
    if sae_id not in listed.entries:
        msg = f"--sae={spec}: the release has no SAE {sae_id!r}."
        raise SettingsError(msg, _near_ids(sae_id, listed))
    reason = refusal(listed.loader, malformed=listed.entries[sae_id].malformed)
    if reason is not None:
        msg = f"--sae={spec} is {reason}."
        raise SettingsError(msg, f"atp saes {listed.model} lists others.")
    return listed.model


def published_at(spec: str) -> Published | None:
    """Return where the hub has an SAE; None for a folder here. Checks as `check_sae_spec` does."""
    check_sae_spec(spec)
    named = split_spec(spec)
    if named is None:
        return None
    listed = _listed(spec, named[0])
    if listed is None:
        return Published(*named, OWN_FORMAT)
    return Published(listed.repository, listed.entries[named[1]].path, listed.loader)


def refuse_unsuited(sae: str, architecture: str | None) -> None:
    """Raise SettingsError if the score of one position is not defined for an architecture."""
    if architecture in UNSUITED:
        msg = f"{sae} is {UNSUITED[architecture]}."
        raise SettingsError(msg, "Choose another one; atp saes lists those of a model.")


def dictionary_label(hook_name: str, d_sae: int, written: str | Sequence[str] | None) -> str:
    """Return the short name of a dictionary, layer31-16k.

    Args:
        hook_name: the hook point that it reads.
        d_sae: its number of features.
        written: the hook point that a transcoder writes to; those of a CLT layer; None of an SAE.
    """
    layer = layer_of(hook_name)
    width = f"{d_sae // 1024}k" if d_sae % 1024 == 0 else str(d_sae)
    if layer is None:
        return f"{hook_name.replace('.', '-')}-{width}"
    if written:
        part = "-transcoder" if isinstance(written, str) else "-clt"
    elif "resid_post" in hook_name:
        part = ""
    else:
        part = "-" + hook_name.rpartition(".")[2].removeprefix("hook_")
    return f"layer{layer}{part}-{width}"


def neuronpedia_page(spec: str, path: str | None) -> str | None:
    """Return the address of an SAE at Neuronpedia, below which each feature has a page.

    `path` is of the weights: a newer release may list others, with other features, by this name.
    """
    named = split_spec(spec)
    listed = None if named is None else find_release(named[0])
    entry = None if named is None or listed is None else listed.entries.get(named[1])
    if entry is None or entry.page is None or entry.path != path:
        return None
    return f"{NEURONPEDIA}/{entry.page}"


def _check_sae_folder(spec: str, folder: Path) -> str | None:
    if not _is_folder(folder):
        msg = f"--sae={spec} is neither RELEASE:SAE_ID nor a folder here."
        raise SettingsError(msg, f"Write for example --sae={EXAMPLE}.")
    for name in ("cfg.json", "sae_weights.safetensors"):
        if not (folder / name).is_file():
            msg = f"--sae={spec} holds no {name}."
            raise SettingsError(msg, "Name a folder as SAELens writes it (save_model).")
    try:
        config = orjson.loads((folder / "cfg.json").read_bytes())
        metadata = config.get("metadata") or config  # older SAELens had no metadata entry
        name = metadata.get("model_name")
        check_metadata(spec, metadata)
    except (orjson.JSONDecodeError, AttributeError) as error:
        msg = f"{folder / 'cfg.json'} is not the configuration of an SAE."
        raise SettingsError(msg, "Name a folder as SAELens writes it (save_model).") from error
    return str(name) if name else None


def check_metadata(spec: str, metadata: Mapping[str, Any]) -> None:
    """Raise SettingsError for metadata whose values cannot be what they should be."""
    written = metadata.get("hook_name_out")
    names = [*written] if isinstance(written, list) else [written]
    names += [metadata.get(key) for key in ("hook_name", "hf_hook_name", "hf_hook_name_out")]
    kwargs = metadata.get("model_from_pretrained_kwargs") or {}
    if not isinstance(kwargs, dict) or not all(isinstance(name, str | None) for name in names):
        msg = f"--sae={spec} has hook points that are no names, or model_from_pretrained_kwargs "
        msg += "that are no settings."
        raise SettingsError(msg, "Mend the metadata in its cfg.json.")


def _is_folder(path: Path) -> bool:
    """Say whether a path is a folder; False, too, for a name that no file can have."""
    return os.path.isdir(path)  # noqa: PTH112  (Path.is_dir raises for a name that is too long)


def _matching_ids(spec: str, release: str, pattern: str) -> list[str]:
    listed = _listed(spec, release)
    if listed is None:
        msg = f"--sae={spec}: SAELens does not list the SAEs of {release}, so none can match."
        raise SettingsError(msg, f"Name each one: --sae={release}:SAE_ID.")
    patterns = pattern.split("/")
    names = [
        f"{release}:{sae_id}"
        for sae_id in listed.entries
        if len(parts := sae_id.split("/")) == len(patterns)
        and all(map(fnmatchcase, parts, patterns))
    ]
    if not names:
        msg = f"--sae={spec}: the release has no SAE that matches {pattern!r}."
        raise SettingsError(msg, _near_ids(pattern, listed))
    return names


def _matching_folders(spec: str) -> list[str]:
    path = local_path(spec)
    start = next(parent for parent in path.parents if _is_folder(parent))
    # Path.glob would let ** cross folders, and * match hidden ones; the last slash: only folders.
    names = glob.glob(f"{path.relative_to(start)}/", root_dir=start)  # noqa: PTH207
    if not names:
        msg = f"--sae={spec} matches no folder."
        beside = [str(start / name) for name in glob.glob("*/", root_dir=start)]  # noqa: PTH207
        hint = did_you_mean(str(path), beside)
        raise SettingsError(msg, hint or "Write RELEASE:PATTERN or a pattern of folders, quoted.")
    return [str(start / name) for name in names]


def _natural(name: str) -> tuple[list[list[str | int]], str]:
    """Return a sort key: folder by folder, numbers by value; then the name itself."""
    parts = [re.split(r"(\d+)", part) for part in name.split("/")]
    return [[int(run) if run.isdecimal() else run for run in part] for part in parts], name


def _near_ids(sae_id: str, listed: Release) -> str:
    ids = listed.entries
    return did_you_mean(sae_id, ids) or f"It has {', '.join([*ids][:5])} ..."


def _listed(spec: str, release: str) -> Release | None:
    """Return a release in SAELens' list; None for a hub repository that it does not list."""
    listed = find_release(release)
    if listed is not None or "/" in release:
        return listed
    msg = f"--sae={spec}: SAELens knows no release {release!r}."
    raise SettingsError(msg, did_you_mean(release, release_names()))
