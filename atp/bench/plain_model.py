"""The plain Hugging Face model that a bridge was made of, with the same weights in the same memory.

The bridge builds its hook points into the modules of the model it is given; what a bare pass costs
can only be measured without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from atp.model.loading import load_plain

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from atp.model.language_model import Model

WRAPPED = "._original_component"
"""What the bridge adds to the names of parameters."""


def load_plain_model(model: Model, name: str, revision: str | None) -> PreTrainedModel:
    """Load the plain model once more, and let it use the weights that are there.

    Args:
        model: whose weights to use.
        name: as given to `load_model`.
        revision: as given to `load_model`.
    """
    plain = load_plain(name, revision, torch.device("cpu"), model.dtype)
    there = {
        key.replace(WRAPPED, ""): parameter
        for key, parameter in model.bridge.original_model.named_parameters(remove_duplicate=False)
    }
    for key, parameter in plain.named_parameters():
        same = there.get(key)
        if same is not None and (same.shape, same.dtype) == (parameter.shape, parameter.dtype):
            parameter.data = same.data
    return plain.to(model.device)
