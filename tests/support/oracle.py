"""The reference for every faster path: the notebook's procedure on a plain model from disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from atp.bench.notebook import Answer, Notebook, layers_of

__all__ = ["Answer", "Oracle", "Place", "Text", "plain_model"]


@lru_cache(maxsize=8)
def plain_model(
    folder: str | Path, gguf_file: str | None = None, dtype: torch.dtype = torch.float32
) -> Any:
    """Return a Hugging Face model, loaded once; who hooks into it removes the hooks."""
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", gguf_file=gguf_file
    ).eval()


@dataclass(frozen=True)
class Place:
    """The input or the output of a module of a plain model."""

    module: nn.Module
    side: str

    @classmethod
    def of(cls, model: Any, name: str | int) -> Place:
        """Find one by its name below the layers, as in 1.mlp.input; 1 and 1.output are a layer."""
        path, _, side = str(name).rpartition(".")
        if side not in {"input", "output"}:
            path, side = str(name), "output"
        return cls(layers_of(model).get_submodule(path), side)

    @contextmanager
    def changed(self, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Change what passes, (batch, position, width), while the context lasts."""

        def first(values: Any) -> Any:
            if isinstance(values, tuple):
                return (change(values[0]), *values[1:])
            return change(values)

        handle = (
            self.module.register_forward_pre_hook(lambda _, inputs: first(inputs))
            if self.side == "input"
            else self.module.register_forward_hook(lambda _, __, output: first(output))
        )
        try:
            yield
        finally:
            handle.remove()


@dataclass
class Text:
    """A text to run, and what is read of its logits."""

    ids: list[int]
    prompt_length: int
    read: Callable[[Tensor], Tensor]
    """From logits, (position, vocabulary), to a part of the metric."""


class Oracle(Notebook):
    """The notebook's procedure with a plain model and an SAE at one place.

    Args:
        model_folder: in Hugging Face format.
        sae: of SAELens.
        reads: the layer whose output it reads, or the name of a Place.
        gguf_file: read this file of the folder.
        dtype: of the model.
    """

    def __init__(
        self,
        model_folder: str,
        sae: SAE[Any],
        reads: int | str,
        gguf_file: str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        model = plain_model(model_folder, gguf_file, dtype)
        tokenizer = AutoTokenizer.from_pretrained(model_folder, gguf_file=gguf_file)
        place = Place.of(model, reads)
        super().__init__(model, tokenizer, sae, place.module, reads_input=place.side == "input")

    def texts(
        self,
        prompt: str,
        target: str,
        base: str,
        sequence_tokens: int | None = None,
        *,
        chat: bool = False,
    ) -> list[Text]:
        """Return what the metric of a pair is read off."""
        if sequence_tokens is None:
            found = self.first_difference(prompt, target, base, chat=chat)
            assert found is not None
            ids, p, o, t, b = found
            return [Text(ids, p + 1, lambda logits: logits[p + o - 1, t] - logits[p + o - 1, b])]
        whole, n = self.ids(prompt, target, base, chat=chat)
        other, _ = self.ids(prompt, base, target, chat=chat)
        first = next(
            i for i, (t, b) in enumerate(zip(whole[n:], other[n:], strict=False)) if t != b
        )
        count = max(sequence_tokens, first + 1)

        def mean(ids: list[int], sign: int) -> Callable[[Tensor], Tensor]:
            places = range(n, min(n + count, len(ids)))

            def read(logits: Tensor) -> Tensor:
                logs = logits.log_softmax(dim=-1)
                return sign * torch.stack([logs[i - 1, ids[i]] for i in places]).mean()

            return read

        return [Text(whole, n, mean(whole, 1)), Text(other, n, mean(other, -1))]
