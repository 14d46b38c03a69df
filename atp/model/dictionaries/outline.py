"""SaeOutline: an SAE's sizes and hook point, without loading it or importing SAELens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from huggingface_hub.errors import SafetensorsParsingError

from atp.errors import SettingsError
from atp.model.dictionaries.cached import cached_files
from atp.model.dictionaries.catalogue import FLOAT32_BYTES, dictionary_named
from atp.model.dictionaries.names import published_at, refuse_unsuited, split_spec
from atp.model.hook_names import layer_of
from atp.model.hub_cache import WEIGHTS
from atp.runtime.paths import local_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from atp.model.memory_model import Shape

WIDE = re.compile(r"\bhook_(resid_|mlp_|attn_out)|\bmlp\.hook_in\b|\bln2\.")
"""Found in the names of hook points that are as wide as the residual stream."""


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
    outputs: int = 0
    """Hook points that it writes to, beside that which it reads; 0 for an SAE."""

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
        is_d_model_wide = WIDE.search(self.hook_name) is not None
        if is_d_model_wide and self.d_in not in {None, shape.d_model}:
            given = f"{self.hook_name} of {name} gives {shape.d_model}"
            msg = f"{reads} {self.d_in} numbers (d_in), {given}."
            raise SettingsError(msg, hint)


def sae_outline(spec: str, shape: Shape | None) -> SaeOutline:
    """Look at an SAE's files, here or in the hub cache, and at its name; shape is the model's."""
    published = published_at(spec)
    if published is None:
        return _from_files(spec, "folder", sorted(local_path(spec).glob("*")))
    cached = cached_files(published)
    where = "hub" if cached is None else "cache"
    if cached is not None:
        found = _from_files(spec, where, cached)
        if found.hook_name is not None:
            return found
    return _from_name(spec, where, shape)


def _from_files(spec: str, where: str, files: Sequence[Path]) -> SaeOutline:
    """Read cfg.json, as SAELens itself writes it, and the header of the weights."""
    config: dict[str, Any] = {}
    for file in files:
        if file.name == "cfg.json":
            try:
                config = orjson.loads(file.read_bytes())
            except (OSError, orjson.JSONDecodeError):
                config = {}
    metadata = {**config, **(config.get("metadata") or {})}  # older SAELens had no metadata entry
    weights = next((file for file in files if file.suffix in WEIGHTS), None)
    written = metadata.get("hook_name_out") or []
    return SaeOutline(
        spec,
        "hub" if weights is None else where,
        metadata.get("hook_name"),
        config.get("d_in"),
        config.get("d_sae"),
        config.get("architecture"),
        None if weights is None else _count_numbers(weights),
        len(written) if isinstance(written, list) else 1,
    )


def _from_name(spec: str, where: str, shape: Shape | None) -> SaeOutline:
    """Read what SAELens' list says of an SAE."""
    listed = dictionary_named(*(split_spec(spec) or ("", "")))
    if listed is None:
        return SaeOutline(spec, where)
    d_in = listed.d_in
    if d_in is None and shape is not None:  # of a model that catalogue.py does not know
        all_heads = (listed.hook_name or "").endswith("hook_z")
        d_in = shape.heads * shape.d_head if all_heads else shape.d_model
    weights = listed.weights(d_in)
    return SaeOutline(
        spec,
        where,
        listed.hook_name,
        d_in,
        listed.d_sae,
        listed.architecture,
        weights,
        listed.outputs,
    )


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
