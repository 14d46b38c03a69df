"""Teacher-forced passes, with and without features: metrics, activations, divergence."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from atp.attribution.ablation import ActivationSums
from atp.attribution.batches import Batch, plan
from atp.attribution.capture import measure
from atp.attribution.divergence import divergence
from atp.intervention.ablate import ablated
from atp.intervention.passes import batches_of, halving

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from atp.attribution.contrasts import Contrast
    from atp.intervention.ablate import FeatureSet
    from atp.model.dictionaries.loading import Dictionary
    from atp.model.language_model import Model
    from atp.model.pair_tokenizer import Text

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SideEffects:
    """What an ablation does to answers that it should leave alone; sums over their tokens."""

    kl: float
    nll_before: float
    nll_after: float
    tokens: int
    texts: int
    """Fewer than were given where one does not fit into memory."""


@dataclass(frozen=True)
class AblationRunner:
    """A model, and how it is ablated and run."""

    model: Model
    batch_tokens: int
    strength: float
    first_position: bool

    @contextmanager
    def without(self, sets: Sequence[FeatureSet]) -> Iterator[None]:
        """Have the model run without these features."""
        with ablated(self.model, sets, self.strength, first_position=self.first_position):
            yield

    def metrics(self, contrasts: Sequence[Contrast]) -> Floats:
        """Return the metric of each contrast, NaN where it cannot be had."""
        found = np.full(len(contrasts), np.nan)

        def work(items: Sequence[Contrast]) -> list[float]:
            values: list[float] = measure(self.model, Batch.of(items, self.model.device)).tolist()
            return values

        for indices in plan(contrasts, self.batch_tokens):
            batch = [contrasts[i] for i in indices]
            values = halving(self.model, work, batch, lambda item: item.read)
            found[indices] = [np.nan if value is None else value for value in values]
        found[~np.isfinite(found)] = np.nan
        return found

    def mean_activations(
        self, dictionaries: Sequence[Dictionary], contrasts: Sequence[Contrast]
    ) -> list[Floats]:
        """Return each SAE's mean activations over all positions of these texts that are ablated."""
        tallies = [ActivationSums(each.sae, each.d_sae, each.view) for each in dictionaries]
        hooks = [(each.hook_name, tally) for each, tally in zip(dictionaries, tallies, strict=True)]
        rows = [contrast.tokens for contrast in contrasts]
        with self.model.hooks(hooks):
            for batch in batches_of([len(row) for row in rows], self.batch_tokens):

                def work(part: Sequence[tuple[int, ...]]) -> list[None]:
                    ids, mask = _padded(part, self.model.device)
                    for tally in tallies:
                        tally.mask = mask.clone()
                        tally.mask[:, 0] = int(self.first_position)
                    self._hidden(ids, mask)
                    for tally in tallies:
                        tally.keep()
                    return [None] * len(part)

                halving(self.model, work, [rows[i] for i in batch], len)
        return [tally.means.numpy() for tally in tallies]

    def side_effects(
        self, texts: Sequence[Text], each: Sequence[Sequence[FeatureSet]]
    ) -> list[SideEffects]:
        """Compare the passes over prompt and answer with those without features.

        Args:
            texts: only the tokens of their answers count.
            each: what to take out, one after the other.
        """
        sums = np.zeros((len(each), 5))

        def work(batch: Sequence[Text]) -> list[None]:
            found = self._side_effects(batch, each)
            sums[:] += found  # once the whole batch has gone through
            return [None] * len(batch)

        for indices in batches_of([len(text.tokens) for text in texts], self.batch_tokens):
            batch = [texts[i] for i in indices]
            halving(self.model, work, batch, lambda text: len(text.tokens))
        return [
            SideEffects(kl, was, now, int(n), int(count))
            for kl, was, now, n, count in sums.tolist()
        ]

    def _side_effects(self, texts: Sequence[Text], each: Sequence[Sequence[FeatureSet]]) -> Floats:
        ids, mask = _padded([text.tokens for text in texts], self.model.device)
        steps = torch.arange(ids.shape[1] - 1, device=ids.device)
        starts = torch.tensor([text.prompt_length - 1 for text in texts], device=ids.device)
        # The positions that predict a token of the answer.
        predicts = (steps >= starts[:, None]) & mask[:, 1:].bool()  # (batch, length - 1)
        tokens = ids[:, 1:][predicts]
        before = self._hidden(ids, mask)[:, :-1][predicts]
        found = []
        for sets in each:
            with self.without(sets):
                after = self._hidden(ids, mask)[:, :-1][predicts]
            got = divergence(self.model.head, before, after, tokens)
            parts = (got.kl, got.nll_before, got.nll_after)
            found.append([*(float(part.sum()) for part in parts), len(tokens), len(texts)])
        return np.array(found).reshape(len(each), 5)

    @torch.no_grad()
    def _hidden(self, ids: Tensor, mask: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        return self.model.hidden(ids, mask, positions, None)


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids and mask of whole texts, padded on the right."""
    width = max(map(len, rows))
    ids = [[*row, *[0] * (width - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
