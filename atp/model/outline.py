"""Outline: a model's tokenizer and sizes, without its weights.

The architecture is built on torch's meta device, which holds shapes and no numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformer_lens.model_bridge.sources.transformers import map_default_transformer_lens_config
from transformers import AutoModelForCausalLM

from atp.model.loading import check_packing, load_config, load_tokenizer, loading_errors
from atp.model.memory_model import Shape
from atp.model.names import short_name


@dataclass(frozen=True)
class Outline:
    """A model without its weights, by its name in results."""

    name: str
    tokenizer: Any
    n_ctx: int
    """The longest sequence the model can read, in tokens."""
    shape: Shape
    parameters: int
    body_parameters: int
    """Without the embedding and the unembedding, of which a token needs a row or two."""
    published_bytes: int | None
    """None when the configuration does not say."""
    unembedding_parameters: int = 0

    @property
    def dtype(self) -> str:
        """The dtype in which a run would load the weights."""
        return "float32" if self.shape.element == torch.float32.itemsize else "bfloat16"

    @property
    def bos_token_id(self) -> int | None:
        """The token that starts every sequence; None when the model has none."""
        bos: int | None = self.tokenizer.bos_token_id
        return bos

    @property
    def bytes(self) -> int:
        """Size of the weights in memory."""
        return self.parameters * self.shape.element


def outline(name: str, revision: str | None, dtype: torch.dtype) -> Outline:
    """Read a model's tokenizer and configuration; name and revision are as for `load_model`."""
    with loading_errors(name):
        config = load_config(name, revision)
        check_packing(config, name)
        tokenizer = load_tokenizer(name, revision)
        mapped = map_default_transformer_lens_config(config)
        with torch.device("meta"):
            plain = AutoModelForCausalLM.from_config(config, dtype=dtype)
    unembedding = plain.get_output_embeddings()
    ends = [end.weight for end in (plain.get_input_embeddings(), unembedding) if end is not None]
    outside = {id(weight): weight.numel() for weight in ends}  # may be one, tied
    parameters = sum(parameter.numel() for parameter in plain.parameters())
    saved = getattr(config, "dtype", None)
    saved_bytes = parameters * saved.itemsize if isinstance(saved, torch.dtype) else None
    return Outline(
        name=short_name(name),
        tokenizer=tokenizer,
        n_ctx=int(mapped.n_ctx),
        shape=Shape.of(mapped, dtype.itemsize, plain),
        parameters=parameters,
        body_parameters=parameters - sum(outside.values()),
        published_bytes=saved_bytes,
        unembedding_parameters=0 if unembedding is None else unembedding.weight.numel(),
    )
