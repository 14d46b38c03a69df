"""Which files of a hub repository a run reads: what Transformers and SAELens load.

Decided by names alone; that nothing is missing is for the loaders themselves to prove.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import orjson

from atp.errors import SettingsError, UnavailableError
from atp.model.dictionaries.loading import UNSUITED
from atp.model.hub_cache import INDEX

if TYPE_CHECKING:
    from atp.model.dictionaries.names import Published
    from atp.model.hub.listing import Listing

MODEL_WEIGHTS = (
    "model.safetensors",
    f"model.safetensors{INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX}",
)
"""Where Transformers looks for weights, in its order: the first that is there is what it loads."""

BESIDE_WEIGHTS = {".json", ".jinja", ".model", ".tiktoken", ".txt"}
"""Configuration, tokenizer and chat template: each tokenizer has names of its own, all are small,
and all stand beside the weights."""
CHAT_TEMPLATES = "additional_chat_templates"

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
"""What each loader of SAELens reads; ? marks what it can do without. Those of SAEs that atp does
not score are not here."""


def model_files(listing: Listing) -> list[str]:
    """Return the files of a model's repository that a run reads.

    Raises:
        UnavailableError: there are no weights that Transformers reads.
    """
    names = listing.files
    weights = next((name for name in MODEL_WEIGHTS if name in names), None)
    if weights is None or "config.json" not in names:
        kinds = "weights (*.safetensors or *.bin)" if weights is None else "config.json"
        msg = f"{listing.repository} has no {kinds} at its root, where Transformers looks."
        raise UnavailableError(msg, "Name another repository of the model.")
    chosen = {weights}
    if weights.endswith(INDEX):
        chosen |= _parts(listing, weights)
    for name in names:
        path = PurePosixPath(name)
        place = str(path.parent)
        if path.suffix in BESIDE_WEIGHTS and place in {".", CHAT_TEMPLATES}:
            chosen |= set() if name.endswith(INDEX) else {name}
    return _all_there(listing, chosen)


def sae_files(listing: Listing, published: Published) -> list[str]:
    """Return the files of its repository that loading an SAE reads.

    Args:
        listing: of that repository.
        published: where in it the SAE is.

    Raises:
        SettingsError: an SAE whose scores are not defined.
        UnavailableError: a file that SAELens needs is not there.
    """
    loader, path = published.loader, published.path
    for kind, reason in UNSUITED.items():
        if kind in loader or kind in path:
            hint = "Choose an SAE of the residual stream, an MLP or attention output."
            msg = f"{path} of {published.repository} is a {kind}: {reason}."
            raise SettingsError(msg, hint)
    if loader not in SAE_FILES:
        msg = f"what SAELens reads of {published.repository} ({loader}) is not known."
        raise UnavailableError(msg, "Choose another release, or let a run fetch it.")
    stem = path.removesuffix(".pt")
    chosen = set()
    for pattern in SAE_FILES[loader]:
        name = pattern.removeprefix(OPTIONAL).format(path=path, stem=stem)
        if name in listing.files or not pattern.startswith(OPTIONAL):
            chosen.add(name)
    return _all_there(listing, chosen)


def _parts(listing: Listing, index: str) -> set[str]:
    try:
        return set(map(str, orjson.loads(listing.read(index))["weight_map"].values()))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        msg = f"{index} of {listing.repository} is no index of weights."
        raise UnavailableError(msg, "Name another repository of the model.") from error


def _all_there(listing: Listing, chosen: set[str]) -> list[str]:
    if missing := sorted(chosen - set(listing.files)):
        msg = f"{listing.repository} lacks {', '.join(missing[:5])}."
        raise UnavailableError(msg, "Name another repository, or tell its owner.")
    return sorted(chosen)
