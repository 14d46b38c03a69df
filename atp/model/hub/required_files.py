"""The files of a hub repository that a run reads: those that Transformers and SAELens load.

Names alone decide. verify.py then loads the files, which shows that none is missing.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from atp.errors import UnavailableError
from atp.model.dictionaries.files import files_of
from atp.model.hub_cache import INDEX, parts_of_index

if TYPE_CHECKING:
    from atp.model.dictionaries.files import Published
    from atp.model.hub.listing import Listing

PLAIN, OLD = "model.safetensors", "pytorch_model.bin"
MODEL_WEIGHTS = (PLAIN, PLAIN + INDEX, OLD, OLD + INDEX)
"""Transformers loads the first of these files that exists."""

BESIDE_WEIGHTS = {".json", ".jinja", ".model", ".tiktoken", ".txt"}
"""Suffixes of configuration, tokenizer and chat template, whose names differ."""
CHAT_TEMPLATES = "additional_chat_templates"
OTHER_REPOSITORY = "Name another repository of the model."


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
    """Return the files that loading an SAE reads; its name has been checked."""
    return _checked(listing, set(files_of(published, listing.files.__contains__)))


def _checked(listing: Listing, chosen: set[str]) -> list[str]:
    if missing := sorted(chosen - set(listing.files)):
        msg = f"{listing.repository} lacks {', '.join(missing[:5])}."
        raise UnavailableError(msg, "Name another repository, or tell its owner.")
    return sorted(chosen)
