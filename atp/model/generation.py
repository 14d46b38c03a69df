"""Answers of a model to batches of prompts, by Transformers' own generation, hooks and all.

Greedy, or sampled by the Gumbel-max trick: the largest of logits / temperature + Gumbel noise is a
sample of their softmax. Each row's noise comes from a seed of its own, so that an answer depends
neither on the batch it is in nor on the device, and two models that are given the same seeds differ
in their answers only as far as their logits do. Nothing else that a model's generation_config may
ask for (top-k, repetition penalty) is done; only its end tokens count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, LogitsProcessor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from atp.model.loading import Model


@dataclass(frozen=True)
class Generated:
    """An answer."""

    tokens: tuple[int, ...]
    """Without the end token."""
    ended: bool
    """By an end token; else it was cut off at the most new tokens."""


class _Gumbel(LogitsProcessor):  # type: ignore[misc]  # a class of a library without types
    """Makes the largest score a sample.

    Args:
        temperature: above 0.
        seeds: of each row.
    """

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        self.temperature = temperature
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores, (batch, vocabulary), with each row's own noise."""
        del input_ids
        size = scores.shape[1]
        uniform = torch.stack([torch.rand(size, generator=each) for each in self.generators])
        noise = -torch.log(-torch.log(uniform.clamp(min=1e-30, max=1 - 2**-24)))
        return scores.float() / self.temperature + noise.to(scores.device)


def end_tokens(model: Model) -> list[int]:
    """Return the tokens that end an answer: of the tokenizer, and of the model's own settings."""
    config = getattr(model.bridge.original_model, "generation_config", None)
    named = [model.tokenizer.eos_token_id, getattr(config, "eos_token_id", None)]
    flat = [i for item in named for i in (item if isinstance(item, list) else [item])]
    return sorted({int(i) for i in flat if i is not None})


@torch.no_grad()
def generate(
    model: Model,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seeds: Sequence[int] | None = None,
) -> list[Generated]:
    """Answer prompts, all in one batch.

    Args:
        model: with whatever hooks are active.
        prompts: their token ids.
        max_new_tokens: where an answer is cut off.
        temperature: 0 is greedy.
        seeds: of each row; only for a temperature above 0.
    """
    width = max(map(len, prompts))
    ends = end_tokens(model)
    padding = ends[0] if ends else 0
    gaps = [width - len(row) for row in prompts]
    rows = [[*[padding] * gap, *row] for gap, row in zip(gaps, prompts, strict=True)]
    mask = [[0] * gap + [1] * (width - gap) for gap in gaps]
    processors = [_Gumbel(temperature, seeds or range(len(prompts)))] if temperature else []
    found = _generate(
        model,
        torch.tensor(rows, device=model.device),
        torch.tensor(mask, device=model.device),
        GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=ends or None,
            pad_token_id=padding,
        ),
        processors,
    )
    return [_until_end(row, set(ends)) for row in found[:, width:].tolist()]


def _generate(
    model: Model, ids: Tensor, mask: Tensor, config: GenerationConfig, processors: list[Any]
) -> Tensor:
    hf_model = model.bridge.original_model
    if hasattr(model.bridge, "pos_embed"):  # what the bridge's own forward() tells its embedding
        model.bridge.pos_embed._current_batch_size = len(ids)  # noqa: SLF001
    # What `config` leaves open, Transformers takes from the model's own.
    own, hf_model.generation_config = hf_model.generation_config, GenerationConfig()
    try:
        tokens: Tensor = hf_model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            logits_processor=processors,
        )
    finally:
        hf_model.generation_config = own
    return tokens


def _until_end(row: Sequence[int], ends: set[int]) -> Generated:
    end = next((i for i, token in enumerate(row) if token in ends), None)
    return Generated(tuple(row[:end]), end is not None)


def text_of(model: Model, prompt: Sequence[int], answer: Sequence[int]) -> str:
    """Return an answer as text, its leading blank included.

    Decoded alone, the first token of some tokenizers loses its blank: the text is what the answer
    adds to the prompt's.
    """

    def decode(tokens: Sequence[int]) -> str:
        text: str = model.tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    before, both = decode(prompt), decode([*prompt, *answer])
    return both[len(before) :] if both.startswith(before) else decode(answer)
