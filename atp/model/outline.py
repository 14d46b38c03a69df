"""Outline: what is known of a model without its weights.

The tokenizer and the configuration are those that a run loads; the architecture is built on torch's
meta device, which holds shapes and no numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformer_lens.model_bridge.sources.transformers import map_default_transformer_lens_config
from transformers import AutoConfig, AutoModelForCausalLM

from atp.errors import AtpError
from atp.model.loading import cannot_load, load_tokenizer, short_name, source_of
from atp.model.memory_model import Shape


@dataclass(frozen=True)
class Outline:
    """A model without its weights; a PairTokenizer can read with it."""

    name: str
    """As results call the model."""
    tokenizer: Any
    n_ctx: int
    """The longest sequence the model can read, in tokens."""
    shape: Shape
    parameters: int
    """How many numbers the weights are."""
    body_parameters: int
    """Those of the layers: without the embedding and the unembedding, of which a token needs a row
    or two."""
    published_bytes: int | None
    """What the weights take as they are published; None when the configuration does not say."""
    unembedding_parameters: int = 0
    """Those that all logits of a token are products with."""

    @property
    def dtype(self) -> str:
        """What a run would load the weights as."""
        return "float32" if self.shape.element == torch.float32.itemsize else "bfloat16"

    @property
    def bos_token_id(self) -> int | None:
        """The token that starts every sequence; None when the model has none."""
        bos: int | None = self.tokenizer.bos_token_id
        return bos

    @property
    def bytes(self) -> int:
        """What the weights take in memory."""
        return self.parameters * self.shape.element


def outline(name: str, revision: str | None, dtype: torch.dtype) -> Outline:
    """Read a model's tokenizer and configuration, never its weights.

    Args:
        name: as for `load_model`.
        revision: as for `load_model`.
        dtype: of the weights, as a run would load them.

    Raises:
        UnavailableError: they cannot be had; says why.
    """
    source, options = source_of(name, revision)
    try:
        config = AutoConfig.from_pretrained(source, **options)
        tokenizer = load_tokenizer(name, revision)
        mapped = map_default_transformer_lens_config(config)
        with torch.device("meta"):
            plain = AutoModelForCausalLM.from_config(config, dtype=dtype)
    except AtpError:
        raise
    except Exception as error:  # the libraries raise what they like
        raise cannot_load(name, error) from error
    ends = (plain.get_input_embeddings(), plain.get_output_embeddings())
    outside = {id(end.weight): end.weight.numel() for end in ends if end is not None}  # may be tied
    parameters = sum(parameter.numel() for parameter in plain.parameters())
    published = getattr(config, "dtype", None)
    return Outline(
        short_name(name),
        tokenizer,
        int(mapped.n_ctx),
        Shape.of(mapped, dtype.itemsize),
        parameters,
        parameters - sum(outside.values()),
        parameters * published.itemsize if isinstance(published, torch.dtype) else None,
        0 if ends[1] is None else ends[1].weight.numel(),
    )
