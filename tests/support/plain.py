"""The slow, plain way to ablate: a Hugging Face model with a hook, whole texts, full logits.

Shares nothing with atp: what each feature writes is found by switching it off and decoding again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from transformers import AutoModelForCausalLM

from atp.bench.notebook import layers_of


class Plain:
    """A model from disk in which the features of some SAEs can be switched off.

    Args:
        folder: of the model.
    """

    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()

    @contextmanager
    def without(
        self,
        removals: Sequence[tuple[int, SAE[Any], Sequence[int]]],
        strength: float = 1.0,
        *,
        first: bool = True,
    ) -> Iterator[None]:
        """Subtract features, (layer, SAE, ids), at every position of whole texts."""
        handles = []
        for layer, sae, ids in removals:

            def hook(
                _module: object,
                _inputs: object,
                output: Any,
                sae: SAE[Any] = sae,
                ids: Sequence[int] = ids,
            ) -> Any:
                x = output[0] if isinstance(output, tuple) else output
                new = x.clone()
                for position in range(0 if first else 1, x.shape[1]):
                    here = x[:, position]
                    f = sae.encode(here)
                    whole = sae.decode(f)
                    sae.encode(here)  # what a decode used up
                    f = f.clone()
                    f[:, list(ids)] = 0
                    new[:, position] = here - strength * (whole - sae.decode(f))
                return (new, *output[1:]) if isinstance(output, tuple) else new

            handles.append(layers_of(self.model)[layer].register_forward_hook(hook))
        try:
            with torch.no_grad():
                yield
        finally:
            for handle in handles:
                handle.remove()

    def logits(self, tokens: Sequence[int]) -> torch.Tensor:
        """Return all logits of one text, (position, vocabulary)."""
        with torch.no_grad():
            found: torch.Tensor = self.model(torch.tensor([list(tokens)])).logits[0].float()
        return found

    def answer(self, tokens: Sequence[int], count: int, ends: set[int]) -> list[int]:
        """Return the greedy answer, token by token, the whole text anew for each."""
        text = list(tokens)
        for _ in range(count):
            new = int(self.logits(text)[-1].argmax())
            if new in ends:
                break
            text.append(new)
        return text[len(tokens) :]
