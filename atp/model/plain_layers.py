"""Where a plain Hugging Face model keeps its layers, found without its weights."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM

from atp.model.loading import load_config, loading_errors


def layers_name(name: str, revision: str | None) -> str:
    """Return the name of a model's list of layers, below its base model: "layers" or "h".

    Name and revision are as for `load_model`; an AtpError says that the configuration is not there.
    """
    with loading_errors(name):
        config = load_config(name, revision)
        with torch.device("meta"):
            plain = AutoModelForCausalLM.from_config(config)
    count = config.get_text_config().num_hidden_layers
    inside = {id(module) for module in plain.get_decoder().modules()}  # not a vision tower's
    lists: dict[str, torch.nn.ModuleList] = {
        path: module
        for path, module in plain.base_model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and id(module) in inside
    }
    return next(path for path, module in lists.items() if len(module) == count)
