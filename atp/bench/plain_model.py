"""The plain Hugging Face model of a bridge, with the same weights in the same memory.

The bridge builds its hook points into the modules of its model; a bare pass is timed without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from atp.model.loading import load_plain

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from atp.model.language_model import Model

BRIDGE_PART = "._original_component"  # the bridge adds it to the names of parameters


def load_plain_model(model: Model, name: str, revision: str | None) -> PreTrainedModel:
    """Load the plain model of a name and revision, and let it share the weights of `model`."""
    plain = load_plain(name, revision, torch.device("cpu"), model.dtype)
    bridge_weights = {
        key.replace(BRIDGE_PART, ""): parameter
        for key, parameter in model.bridge.original_model.named_parameters(remove_duplicate=False)
    }
    for key, parameter in plain.named_parameters():
        shared, form = bridge_weights.get(key), (parameter.shape, parameter.dtype)
        # The bridge splits some weights into parts: those keep a copy of their own.
        if shared is not None and (shared.shape, shared.dtype) == form:
            parameter.data = shared.data
    return plain.to(model.device)
