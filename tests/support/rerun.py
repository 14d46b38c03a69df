"""The reference for methods, effects and ablations: the plain model, run again with changes.

Whole texts one at a time, no cache, full logits; a forward hook changes the output of a layer. The
formulas are those of docs/method.md, written out. Nothing is shared with the fast code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from oracle import Oracle, Text, plain_model
from sae_lens import SAE
from torch import Tensor

from atp.bench.notebook import layers_of

Change = Callable[[Tensor], Tensor]
"""From the residuals of a text, (position, d_model), to what they become."""


class Rerun(Oracle):
    """The oracle's model and SAE, run with changes."""

    def run(self, text: Text, change: Change = lambda x: x) -> Tensor:
        """Return a text's part of the metric, with the layer's output changed."""

        def on_output(_module: object, _inputs: object, output: Any) -> Any:
            if isinstance(output, tuple):
                return (change(output[0][0])[None], *output[1:])
            return change(output[0])[None]

        handle = self.module.register_forward_hook(on_output)
        try:
            return text.read(self.model(torch.tensor([text.ids])).logits[0])
        finally:
            handle.remove()

    def metric(self, texts: list[Text], changes: list[Change] | None = None) -> float:
        """Return the metric of a pair."""
        with torch.no_grad():
            return float(
                sum(
                    self.run(text, change)
                    for text, change in zip(
                        texts, changes or [lambda x: x] * len(texts), strict=True
                    )
                )
            )

    def residuals(self, text: Text) -> Tensor:
        """Return what the layer gives, (position, d_model)."""
        kept: list[Tensor] = []

        def keep(x: Tensor) -> Tensor:
            kept.append(x)
            return x

        with torch.no_grad():
            self.run(text, keep)
        return kept[0]

    def features(self, x: Tensor) -> Tensor:
        """Return the activations of one residual."""
        with torch.no_grad():
            return self.sae.encode(x[None])[0]

    def moved(self, x: Tensor, features: Tensor) -> Tensor:
        """Return x with the part that its features decode to replaced by what others decode to."""
        with torch.no_grad():
            mine = self.sae.encode(x[None])
            own = self.sae.decode(mine)[0]
            self.sae.encode(x[None])  # an SAE that normalises forgets the scale when it decodes
            other = self.sae.decode(features[None])[0]
        return x - own + other

    def without(self, ids: list[int], at: list[int], baseline: Tensor | None = None) -> Change:
        """Return the change that sets some features to their baseline at some positions."""

        def change(x: Tensor) -> Tensor:
            x = x.clone()
            for position in at:
                features = self.features(x[position])
                features[ids] = 0 if baseline is None else baseline[ids]
                x[position] = self.moved(x[position], features)
            return x

        return change

    def gradients(self, text: Text, moved: Tensor | None = None, at: int = 0) -> Tensor:
        """Return dm/dx at every position, (position, d_model), x at one of them being `moved`."""
        kept: list[Tensor] = []

        def splice(x: Tensor) -> Tensor:
            x = x.detach().clone()
            if moved is not None:
                x[at] = moved
            kept.append(x.requires_grad_())
            return kept[0]

        (gradient,) = torch.autograd.grad(self.run(text, splice), kept)
        return gradient

    def per_feature(self, x: Tensor, g: Tensor) -> Tensor:
        """Return dm/df of one residual: g through the decoder."""
        leaf = self.features(x).requires_grad_()
        (gradient,) = torch.autograd.grad(self.sae.decode(leaf[None])[0] @ g, leaf)
        return gradient


class Ablated:
    """A plain model in which the features of some SAEs can be switched off, whole texts at a time.

    The contribution of a feature is found by switching it off and decoding again.

    Args:
        folder: of the model.
    """

    def __init__(self, folder: Path) -> None:
        self.model = plain_model(str(folder))

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

    def logits(self, tokens: Sequence[int]) -> Tensor:
        """Return all logits of one text, (position, vocabulary)."""
        with torch.no_grad():
            found: Tensor = self.model(torch.tensor([list(tokens)])).logits[0].float()
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
