"""Makes SAELens read the shapes in a weights file from the cache, where it would ask the hub.

Its loader of Gemma Scope 2 asks with a library that HF_HUB_OFFLINE does not reach. Without this
patch no such SAE can be loaded without a network, even if the cache has it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from huggingface_hub import hf_hub_download
from safetensors import safe_open

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def shapes_from_cache() -> Iterator[None]:
    """Patch SAELens while the context lasts; the file is one that it loads next anyway."""
    from sae_lens.loading import pretrained_sae_loaders as loaders  # noqa: PLC0415  (8 s)

    from_the_hub = loaders.get_safetensors_tensor_shapes
    loaders.get_safetensors_tensor_shapes = _shapes
    try:
        yield
    finally:
        loaders.get_safetensors_tensor_shapes = from_the_hub


def _shapes(repo_id: str, filename: str) -> dict[str, list[int]]:
    with safe_open(hf_hub_download(repo_id, filename), framework="pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
