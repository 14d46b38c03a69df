"""The reference for every faster path: the notebook's procedure on a plain model from disk."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from transformers import AutoModelForCausalLM, AutoTokenizer

from atp.bench.notebook import Answer, Notebook, layers_of

__all__ = ["Answer", "Oracle", "plain_model"]


@lru_cache(maxsize=8)
def plain_model(folder: str | Path, gguf_file: str | None = None) -> Any:
    """Return a Hugging Face model in float32, loaded once; who hooks into it removes the hooks."""
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", gguf_file=gguf_file
    ).eval()


class Oracle(Notebook):
    """The notebook's procedure with a plain model in float32 and an SAE on one layer.

    Args:
        model_folder: in Hugging Face format.
        sae: of SAELens.
        layer: whose output it reads.
        gguf_file: read this file of the folder.
        part: a part of the layer whose input the SAE reads instead.
    """

    def __init__(
        self,
        model_folder: str,
        sae: SAE[Any],
        layer: int,
        gguf_file: str | None = None,
        part: str | None = None,
    ) -> None:
        model = plain_model(model_folder, gguf_file)
        tokenizer = AutoTokenizer.from_pretrained(model_folder, gguf_file=gguf_file)
        module = layers_of(model)[layer]
        if part is not None:
            module = module.get_submodule(part)
        super().__init__(model, tokenizer, sae, module, reads_input=part is not None)
