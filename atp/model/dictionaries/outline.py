"""SaeOutline: what is known of an SAE without loading it, or importing SAELens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import orjson

from atp.config.gemma_scope import WIDTHS
from atp.errors import SettingsError
from atp.model.dictionaries.loading import UNSUITED
from atp.model.dictionaries.names import published_at
from atp.model.hub_cache import WEIGHTS, cached_folder
from atp.model.memory_model import layer_of
from atp.runtime.paths import local_path

if TYPE_CHECKING:
    from pathlib import Path

    from atp.model.memory_model import Shape

FLOAT32 = 4
GEMMA_SCOPE = re.compile(r"google/gemma-scope-.*-(res|mlp|att)\b")
HOOKS = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}


@dataclass(frozen=True)
class SaeOutline:
    """An SAE that is not loaded; None stands for what only loading it would tell."""

    spec: str
    where: str
    """"folder", "cache" or "hub"."""
    hook_name: str | None
    d_in: int | None
    d_sae: int | None
    architecture: str | None
    weights: int | None
    """How many numbers they are."""

    @property
    def bytes(self) -> int | None:
        """What it takes in memory: it is kept in float32."""
        return None if self.weights is None else self.weights * FLOAT32

    def check_fit(self, name: str, shape: Shape) -> None:
        """Make sure that it can be an SAE of a model, as far as is known.

        Raises:
            SettingsError: it cannot.
        """
        hint = "Choose an SAE that was trained on this model."
        for kind, reason in UNSUITED.items():
            if kind in (self.architecture or ""):
                msg = f"--sae={self.spec} is a {self.architecture}: {reason}."
                hint = "Choose an SAE of the residual stream, an MLP or attention output."
                raise SettingsError(msg, hint)
        if self.hook_name is None:
            return
        if layer_of(self.hook_name) >= shape.layers:
            msg = f"--sae={self.spec} reads {self.hook_name}, {name} has {shape.layers} layers."
            raise SettingsError(msg, hint)
        as_wide = re.search(r"\bhook_(resid_|mlp_out|attn_out)", self.hook_name) is not None
        if as_wide and self.d_in not in {None, shape.d_model}:
            msg = (
                f"--sae={self.spec} reads {self.d_in} numbers (d_in), "
                f"{self.hook_name} of {name} gives {shape.d_model}."
            )
            raise SettingsError(msg, hint)


def sae_outline(spec: str, shape: Shape | None) -> SaeOutline:
    """Look at an SAE's files, here or in the hub cache, and at its name.

    Args:
        spec: "RELEASE:SAE_ID", or a folder; no pattern.
        shape: of the model, where it is known.

    Raises:
        SettingsError: as `check_sae_spec` does.
    """
    published = published_at(spec)
    if published is None:
        return _of_folder(spec, "folder", local_path(spec))
    repository, path, _ = published
    commit = cached_folder(repository, None)
    found = _of_folder(spec, "cache", commit / path) if commit is not None else None
    if found is not None and found.hook_name is not None:
        return found
    where = "hub" if commit is None or not _weights(commit / path) else "cache"
    return _of_name(spec, where, repository, path, shape)


def _of_folder(spec: str, where: str, folder: Path) -> SaeOutline:
    """Read cfg.json and the header of the weights."""
    try:
        config: dict[str, Any] = orjson.loads((folder / "cfg.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        config = {}
    about = {**config, **(config.get("metadata") or {})}  # older SAELens had no metadata entry
    weights = next(iter(_weights(folder)), None)
    return SaeOutline(
        spec,
        where if weights is not None else "hub",
        about.get("hook_name"),
        config.get("d_in"),
        config.get("d_sae"),
        config.get("architecture"),
        None if weights is None else _numbers(weights),
    )


def _of_name(spec: str, where: str, repository: str, path: str, shape: Shape | None) -> SaeOutline:
    """Read the names that Gemma Scope gives its SAEs: layer_31/width_16k/average_l0_76."""
    kind = GEMMA_SCOPE.match(repository)
    layer, width = re.search(r"\blayer_(\d+)", path), re.search(r"\bwidth_(\w+)", path)
    if kind is None or layer is None or width is None:
        return SaeOutline(spec, where, None, None, None, None, None)
    d_in = None
    if shape is not None:
        d_in = shape.heads * shape.d_head if kind[1] == "att" else shape.d_model
    d_sae = WIDTHS.get(width[1])
    weights = None
    if d_in is not None and d_sae is not None:  # encoder, decoder, their biases, the thresholds
        weights = 2 * d_in * d_sae + d_in + 2 * d_sae
    hook_name = f"blocks.{layer[1]}.{HOOKS[kind[1]]}"
    return SaeOutline(spec, where, hook_name, d_in, d_sae, "jumprelu", weights)


def _weights(place: Path) -> list[Path]:
    """Return the weights in a folder, or the file itself."""
    if place.is_file():
        return [place]
    return sorted(file for file in place.glob("*") if file.suffix in WEIGHTS)


def _numbers(weights: Path) -> int | None:
    """Return how many numbers a weights file holds, by its header; None for another format."""
    if weights.suffix != ".safetensors":
        return None
    try:
        with weights.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = orjson.loads(file.read(min(length, 1 << 24)))
        shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
        return sum(map(prod, shapes))
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None
