"""The reference for a dictionary that writes elsewhere than it reads: a plain model with hooks.

A pass over a whole text reads x at one place, f = encode(x), and adds decode_w(f') - decode_w(f) at
every place w that is written, later in the same pass. For a gradient f' is f, a leaf; for a removal
it is f without some features, and the rest of the model answers. x itself, and what the dictionary
leaves unexplained of a written place, stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from oracle import Answer, Oracle, Place, Text
from sae_lens import SAE
from torch import Tensor

Change = Callable[[Tensor], Tensor]
"""From the features of one position, (d_sae,), to what they become."""


class Elsewhere(Oracle):
    """A plain model and a dictionary that reads at one place and writes at others.

    Args:
        model_folder: in Hugging Face format.
        sae: of SAELens; of several written places it decodes to all, side by side.
        reads: the name of a Place, as in 1.mlp.input.
        writes: names of Places that run after it. An SAE writes where it reads.
        view: what the dictionary takes of the values at the place that it reads.
    """

    def __init__(
        self,
        model_folder: str,
        sae: SAE[Any],
        reads: str,
        writes: Sequence[str],
        view: Callable[[Tensor], Tensor] = lambda x: x,
    ) -> None:
        super().__init__(model_folder, sae, reads)
        self.reads = Place.of(self.model, reads)
        self.writes = [Place.of(self.model, name) for name in writes]
        self.view = view

    def encode(self, x: Tensor) -> Tensor:
        """Return the features of one position, (d_sae,), of x, (width,)."""
        with torch.no_grad():
            features: Tensor = self.sae.encode(self.view(x.float())[None])[0]
        return features

    def decode(self, features: Tensor) -> list[Tensor]:
        """Return what features add to each written place, with its bias."""
        return list(self.sae.decode(features[None])[0].flatten().chunk(len(self.writes)))

    @contextmanager
    def features_changed(self, change: Change, at: Sequence[int] | None = None) -> Iterator[None]:
        """Have passes over one text go with other features at some positions, by default all."""
        added: dict[int, list[Tensor]] = {}

        def read(x: Tensor) -> Tensor:
            added.clear()
            for position in range(x.shape[1]) if at is None else at:
                features = self.encode(x[0, position])
                with torch.no_grad():
                    own = self.decode(features)
                self.encode(x[0, position])  # an SAE that normalises forgets the scale
                other = self.decode(change(features))
                added[position] = [b - a for a, b in zip(own, other, strict=True)]
            return x

        def write(number: int) -> Change:
            def on(y: Tensor) -> Tensor:
                y = y.clone()
                for position, parts in added.items():
                    y[0, position] = y[0, position] + parts[number]
                return y

            return on

        with ExitStack() as stack:
            stack.enter_context(self.reads.changed(read))
            for number, place in enumerate(self.writes):
                stack.enter_context(place.changed(write(number)))
            yield

    def run(self, text: Text) -> Tensor:
        """Return a text's part of the metric."""
        return text.read(self.model(torch.tensor([text.ids])).logits[0])

    def gradient(
        self, text: Text, change: Change = lambda f: f, at: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return a text's part of the metric, f at one position, and its dm/df, (d_sae,).

        The position is by default the prompt's last. The gradient is taken at what `change` makes
        of f.
        """
        seen: list[Tensor] = []

        def leaf(features: Tensor) -> Tensor:
            seen.extend((features, change(features).detach().clone().requires_grad_()))
            return seen[1]

        with self.features_changed(leaf, [text.prompt_length - 1 if at is None else at]):
            metric = self.run(text)
        (gradient,) = torch.autograd.grad(metric, seen[1])
        return metric.detach(), seen[0], gradient

    def gradients_of_writes(self, text: Text) -> list[Tensor]:
        """Return dm/dy at each written place, (position, width), without the dictionary."""
        kept: list[Tensor] = []

        def keep(y: Tensor) -> Tensor:
            y.retain_grad()
            kept.append(y)
            return y

        with ExitStack() as stack:
            for place in self.writes:
                stack.enter_context(place.changed(keep))
            metric = self.run(text)
        return [gradient[0] for gradient in torch.autograd.grad(metric, kept)]

    def values(self, text: Text) -> tuple[Tensor, list[Tensor]]:
        """Return what is at the place that is read, and at those that are written."""
        kept: list[Tensor] = []

        def keep(y: Tensor) -> Tensor:
            kept.append(y[0].clone())
            return y

        with torch.no_grad(), ExitStack() as stack:
            for place in (self.reads, *self.writes):
                stack.enter_context(place.changed(keep))
            self.run(text)
        return kept[0], kept[1:]

    def metric(
        self,
        texts: list[Text],
        change: Change = lambda f: f,
        at: Sequence[Sequence[int]] | None = None,
    ) -> float:
        """Return the metric of a pair with other features; positions as for `effect`."""
        total = 0.0
        for text, positions in zip(texts, at or self.last_tokens(texts), strict=True):
            with torch.no_grad(), self.features_changed(change, positions):
                total += float(self.run(text))
        return total

    def effect(
        self,
        texts: list[Text],
        ids: Sequence[int],
        baseline: Tensor | None = None,
        at: Sequence[Sequence[int]] | None = None,
    ) -> float:
        """Return by how much the metric of a pair falls once features are at their baseline.

        They are at the positions given of each text, by default at the prompt's last token.
        """

        def without(features: Tensor) -> Tensor:
            features = features.clone()
            features[list(ids)] = 0 if baseline is None else baseline[list(ids)]
            return features

        return self.metric(texts) - self.metric(texts, without, at)

    @staticmethod
    def last_tokens(texts: list[Text]) -> list[list[int]]:
        """Return the position of each text at which features are read by default."""
        return [[text.prompt_length - 1] for text in texts]

    def __call__(
        self, prompt: str, target: str, base: str, *, chat: bool = False, max_tokens: int = 20
    ) -> Answer | None:
        """Score one pair; None if its responses do not differ."""
        found = self.first_difference(prompt, target, base, chat=chat, max_tokens=max_tokens)
        if found is None:
            return None
        _, _, o, t, b = found
        (text,) = self.texts(prompt, target, base, chat=chat)
        metric, f, g = self.gradient(text)
        return Answer(
            token_position=o,
            target_token=self.tokenizer.decode([t]),
            base_token=self.tokenizer.decode([b]),
            logit_diff=float(metric),
            activations=f,
            gradients=g,
            scores=f * g,
        )
