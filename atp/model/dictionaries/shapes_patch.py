"""SAELens asks the hub for the shapes in a weights file, again at each load; the cache has them.

Its loader of Gemma Scope 2 does so with a library that HF_HUB_OFFLINE does not reach: without this,
no such SAE could be loaded without a network, whatever is in the cache.
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
    """Have SAELens read shapes from the file, which it loads next anyway, while this lasts."""
    from sae_lens.loading import pretrained_sae_loaders as loaders  # noqa: PLC0415  (8 s)

    asks_the_hub = loaders.get_safetensors_tensor_shapes
    loaders.get_safetensors_tensor_shapes = _shapes
    try:
        yield
    finally:
        loaders.get_safetensors_tensor_shapes = asks_the_hub


def _shapes(repo_id: str, filename: str) -> dict[str, list[int]]:
    """Stand in for SAELens' function, whose names these are."""
    with safe_open(hf_hub_download(repo_id, filename), framework="pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
