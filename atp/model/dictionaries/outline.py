"""SaeOutline: an SAE's sizes and hook point, without loading it or importing SAELens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from huggingface_hub.errors import SafetensorsParsingError

from atp.config.gemma_scope import WIDTHS
from atp.errors import SettingsError
from atp.model.dictionaries.names import published_at, refuse_unsuited
from atp.model.hook_names import layer_of
from atp.model.hub_cache import WEIGHTS, cached_folder
from atp.runtime.paths import local_path

if TYPE_CHECKING:
    from pathlib import Path

    from atp.model.dictionaries.names import Published
    from atp.model.memory_model import Shape

FLOAT32_BYTES = 4
GEMMA_SCOPE = re.compile(r"google/gemma-scope-.*-(res|mlp|att)\b")
HOOKS = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}


@dataclass(frozen=True)
class SaeOutline:
    """An SAE that is not loaded, with its number of weights; None where only loading would show."""

    spec: str
    where: str
    """"folder", "cache" or "hub"."""
    hook_name: str | None = None
    d_in: int | None = None
    d_sae: int | None = None
    architecture: str | None = None
    weights: int | None = None

    @property
    def bytes(self) -> int | None:
        """Its size in memory, in float32."""
        return None if self.weights is None else self.weights * FLOAT32_BYTES

    def check_fit(self, name: str, shape: Shape) -> None:
        """Raise SettingsError if it cannot be an SAE of a model, as far as is known."""
        refuse_unsuited(f"--sae={self.spec}", self.architecture)
        if self.hook_name is None:
            return
        reads = f"--sae={self.spec} reads"
        hint = "Choose an SAE that was trained on this model."
        if (layer_of(self.hook_name) or 0) >= shape.layers:
            msg = f"{reads} {self.hook_name}, {name} has {shape.layers} layers."
            raise SettingsError(msg, hint)
        is_d_model_wide = re.search(r"\bhook_(resid_|mlp_out|attn_out)", self.hook_name) is not None
        if is_d_model_wide and self.d_in not in {None, shape.d_model}:
            given = f"{self.hook_name} of {name} gives {shape.d_model}"
            msg = f"{reads} {self.d_in} numbers (d_in), {given}."
            raise SettingsError(msg, hint)


def sae_outline(spec: str, shape: Shape | None) -> SaeOutline:
    """Look at an SAE's files, here or in the hub cache, and at its name; shape is the model's."""
    published = published_at(spec)
    if published is None:
        return _from_folder(spec, "folder", local_path(spec))
    commit = cached_folder(published.repository, None)
    where = "hub"
    if commit is not None:
        cached = _from_folder(spec, "cache", commit / published.path)
        if cached.hook_name is not None:
            return cached
        where = cached.where
    return _from_name(spec, where, published, shape)


def _from_folder(spec: str, where: str, folder: Path) -> SaeOutline:
    """Read cfg.json and the header of the weights, in a folder or a file of weights."""
    try:
        config: dict[str, Any] = orjson.loads((folder / "cfg.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        config = {}
    metadata = {**config, **(config.get("metadata") or {})}  # older SAELens had no metadata entry
    files = [folder] if folder.is_file() else sorted(folder.glob("*"))
    weights = next((file for file in files if file.suffix in WEIGHTS or file == folder), None)
    return SaeOutline(
        spec,
        "hub" if weights is None else where,
        metadata.get("hook_name"),
        config.get("d_in"),
        config.get("d_sae"),
        config.get("architecture"),
        None if weights is None else _count_numbers(weights),
    )


def _from_name(spec: str, where: str, published: Published, shape: Shape | None) -> SaeOutline:
    """Read the names that Gemma Scope gives its SAEs: layer_31/width_16k/average_l0_76."""
    kind = GEMMA_SCOPE.match(published.repository)
    layer = re.search(r"\blayer_(\d+)", published.path)
    width = re.search(r"\bwidth_(\w+)", published.path)
    if kind is None or layer is None or width is None:
        return SaeOutline(spec, where)
    d_in = None
    if shape is not None:
        d_in = shape.heads * shape.d_head if kind[1] == "att" else shape.d_model
    d_sae = WIDTHS.get(width[1])
    weights = None
    if d_in is not None and d_sae is not None:  # encoder, decoder, their biases, the thresholds
        weights = 2 * d_in * d_sae + d_in + 2 * d_sae
    hook_name = f"blocks.{layer[1]}.{HOOKS[kind[1]]}"
    return SaeOutline(spec, where, hook_name, d_in, d_sae, "jumprelu", weights)


def _count_numbers(weights: Path) -> int | None:
    """Return how many numbers a weights file holds, by its header; None for another format."""
    if weights.suffix != ".safetensors":
        return None
    import huggingface_hub  # noqa: PLC0415  (half a second: names are checked first)

    try:
        header = huggingface_hub.parse_local_safetensors_file_metadata(weights)
    except (SafetensorsParsingError, OSError, TypeError, AttributeError):
        return None
    return sum(header.parameter_count.values())
