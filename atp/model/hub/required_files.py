"""The files of a hub repository that a run reads: those that Transformers and SAELens load.

Names alone decide. verify.py then loads the files, which shows that none is missing.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from atp.errors import UnavailableError
from atp.model.dictionaries.names import refuse_unsuited
from atp.model.hub_cache import INDEX, parts_of_index

if TYPE_CHECKING:
    from atp.model.dictionaries.names import Published
    from atp.model.hub.listing import Listing

PLAIN, OLD = "model.safetensors", "pytorch_model.bin"
MODEL_WEIGHTS = (PLAIN, PLAIN + INDEX, OLD, OLD + INDEX)
"""Transformers loads the first of these files that exists."""

BESIDE_WEIGHTS = {".json", ".jinja", ".model", ".tiktoken", ".txt"}
"""Suffixes of configuration, tokenizer and chat template, whose names differ."""
CHAT_TEMPLATES = "additional_chat_templates"
OTHER_REPOSITORY = "Name another repository of the model."

OPTIONAL = "?"
SAE_FILES = {
    "sae_lens": (
        "{path}/cfg.json",
        "{path}/sae_weights.safetensors",
        "?{path}/sparsity.safetensors",
    ),
    "connor_rob_hook_z": ("{stem}_cfg.json", "{path}"),
    "deepseek_r1": ("{path}",),
    "dictionary_learning_1": ("{path}/config.json", "{path}/ae.pt"),
    "gemma_2": ("{path}/params.npz",),
    "gemma_3": ("?{path}/config.json", "{path}/params.safetensors"),
    "goodfire": ("{path}",),
    "llama_scope": ("{path}/hyperparams.json", "{path}/checkpoints/final.safetensors"),
    "llama_scope_r1_distill": ("{path}/config.json", "{path}/sae_weights.safetensors"),
    "qwen_scope": ("{path}",),
}
"""The files that each loader of SAELens reads, for SAEs that atp scores; ? marks optional ones."""


def model_files(listing: Listing) -> list[str]:
    """Return the files of a model's repository that a run reads."""
    names = listing.files
    weights = next((name for name in MODEL_WEIGHTS if name in names), None)
    if weights is None or "config.json" not in names:
        kinds = "weights (*.safetensors or *.bin)" if weights is None else "config.json"
        msg = f"{listing.repository} has no {kinds} at its root, where Transformers looks."
        raise UnavailableError(msg, OTHER_REPOSITORY)
    chosen = {weights}
    if weights.endswith(INDEX):
        parts = parts_of_index(listing.read(weights))
        if not parts:
            msg = f"{weights} of {listing.repository} is no index of weights."
            raise UnavailableError(msg, OTHER_REPOSITORY)
        chosen |= parts
    for name in names:
        path = PurePosixPath(name)
        is_beside = path.suffix in BESIDE_WEIGHTS and str(path.parent) in {".", CHAT_TEMPLATES}
        if is_beside and not name.endswith(INDEX):
            chosen.add(name)
    return _checked(listing, chosen)


def sae_files(listing: Listing, published: Published) -> list[str]:
    """Return the files that loading an SAE reads; refuses an SAE whose scores are not defined."""
    loader, path = published.loader, published.path
    refuse_unsuited(f"{path} of {published.repository}", loader, path)
    if loader not in SAE_FILES:
        msg = f"the files that SAELens reads of {published.repository} ({loader}) are not known."
        raise UnavailableError(msg, "Choose another release, or let a run download it.")
    chosen = set()
    for pattern in SAE_FILES[loader]:
        name = pattern.removeprefix(OPTIONAL).format(path=path, stem=path.removesuffix(".pt"))
        if name in listing.files or not pattern.startswith(OPTIONAL):
            chosen.add(name)
    return _checked(listing, chosen)


def _checked(listing: Listing, chosen: set[str]) -> list[str]:
    if missing := sorted(chosen - set(listing.files)):
        msg = f"{listing.repository} lacks {', '.join(missing[:5])}."
        raise UnavailableError(msg, "Name another repository, or tell its owner.")
    return sorted(chosen)
