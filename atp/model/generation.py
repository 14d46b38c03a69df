"""A model's responses to batches of prompts, by Transformers' own generation, with hooks active.

Greedy, or sampled by the Gumbel-max trick: the largest of logits / temperature + Gumbel noise is a
sample of their softmax. Each row's noise comes from a seed of its own: a response depends neither
on its batch nor on the device. Of a model's generation_config only the end tokens have effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig, LogitsProcessor

from atp.model.bridge_patches import set_batch_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from atp.model.language_model import Model


@dataclass(frozen=True)
class Generated:
    """A response, without its end token; one that has not ended was cut off."""

    tokens: tuple[int, ...]
    ended: bool


class _Gumbel(LogitsProcessor):  # type: ignore[misc]  # a class of a library without types
    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        self.temperature = temperature
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        """Return scores, (batch, vocabulary), with each row's own noise."""
        size = scores.shape[1]
        uniform = torch.stack([torch.rand(size, generator=own) for own in self.generators])
        noise = -torch.log(-torch.log(uniform.clamp(min=1e-30, max=1 - 2**-24)))
        return scores.float() / self.temperature + noise.to(scores.device)


def end_tokens(model: Model) -> list[int]:
    """Return the tokens that end a response: the tokenizer's, and those of the model's settings."""
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
    """Respond to token ids, in one batch; above a temperature of 0, sample each row by its seed.

    A model that keeps more than keys and values may see padding: it gets a batch for each length.
    """
    seeds = seeds or range(len(prompts))
    lengths = [0 if model.keeps_all_keys else len(prompt) for prompt in prompts]
    found: dict[int, Generated] = {}
    for length in set(lengths):
        which = [i for i, own in enumerate(lengths) if own == length]
        rows, noise = [prompts[i] for i in which], [seeds[i] for i in which]
        found |= zip(which, _generate(model, rows, max_new_tokens, temperature, noise), strict=True)
    return [found[i] for i in range(len(prompts))]


def _generate(
    model: Model,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float,
    seeds: Sequence[int],
) -> list[Generated]:
    width = max(map(len, prompts))
    ends = end_tokens(model)
    padding = ends[0] if ends else 0
    gaps = [width - len(row) for row in prompts]
    rows = [[*[padding] * gap, *row] for gap, row in zip(gaps, prompts, strict=True)]
    mask = [[0] * gap + [1] * (width - gap) for gap in gaps]
    hf_model = model.bridge.original_model
    set_batch_size(model.bridge, len(rows))
    # Transformers would take the settings that are missing below from the model's own.
    own, hf_model.generation_config = hf_model.generation_config, GenerationConfig()
    try:
        tokens = hf_model.generate(
            input_ids=torch.tensor(rows, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            generation_config=GenerationConfig(
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=ends or None,
                pad_token_id=padding,
            ),
            logits_processor=[_Gumbel(temperature, seeds)] if temperature else [],
        )
    finally:
        hf_model.generation_config = own
    responses = []
    for row in tokens[:, width:].tolist():
        end = next((i for i, token in enumerate(row) if token in ends), None)
        responses.append(Generated(tuple(row[:end]), end is not None))
    return responses


def text_of(model: Model, prompt: Sequence[int], response: Sequence[int]) -> str:
    """Return a response as text, its leading blank included.

    Decoded alone, the first token may lose its blank: the text is cut from prompt and response.
    """
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    decode: Callable[..., str] = partial(model.tokenizer.decode, **options)
    before, both = decode(list(prompt)), decode([*prompt, *response])
    return both[len(before) :] if both.startswith(before) else decode(list(response))
