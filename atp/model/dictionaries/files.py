"""The files of a hub repository that each of SAELens' loaders reads; names alone decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

CLT_LAYERS = "mntss_clt_layer_transcoder"
"""The loader of layers of cross-layer transcoders (CLTs)."""
OPTIONAL = "?"
FILES = {
    "sae_lens": (
        "{path}/cfg.json",
        "{path}/sae_weights.safetensors",
        "?{path}/sparsity.safetensors",
    ),
    "connor_rob_hook_z": ("{stem}_cfg.json", "{path}"),
    "deepseek_r1": ("{path}",),
    "dictionary_learning_1": ("{path}/config.json", "{path}/ae.pt"),
    "gemma_2": ("{path}/params.npz",),
    "gemma_2_transcoder": ("{path}/params.npz",),
    "gemma_3": ("?{path}/config.json", "{path}/params.safetensors"),
    "goodfire": ("{path}",),
    "llama_scope": ("{path}/hyperparams.json", "{path}/checkpoints/final.safetensors"),
    "llama_scope_r1_distill": ("{path}/config.json", "{path}/sae_weights.safetensors"),
    CLT_LAYERS: (
        "config.yaml",
        "W_enc_{path}.safetensors",
        "W_dec_{path}.safetensors",
    ),
    "mwhanna_transcoder": ("wandb-config.yaml|wanb-config.yaml", "?config.yaml", "{path}"),
    "qwen_scope": ("{path}",),
    "sparsify": ("{path}/cfg.json", "{path}/sae.safetensors", "?{parent}config.json"),
}
"""By loader; ? marks optional ones, and | stands between names of which the first there counts."""


class Published(NamedTuple):
    """Where the hub has a dictionary, a folder or a file, and the name of SAELens' loader."""

    repository: str
    path: str
    loader: str


def files_of(published: Published, exists: Callable[[str], bool]) -> list[str]:
    """Return the files that a dictionary's loader reads, those that do not exist included."""
    parent, slash, _ = published.path.rpartition("/")
    values = {
        "path": published.path,
        "stem": published.path.removesuffix(".pt"),
        "parent": parent + slash,
    }
    chosen = []
    for pattern in FILES[published.loader]:
        names = pattern.removeprefix(OPTIONAL).format(**values).split("|")
        there = next(filter(exists, names), None)
        if there is not None or not pattern.startswith(OPTIONAL):
            chosen.append(there or names[0])
    return chosen
