"""Passes over texts, with and without features: metrics, mean activations, side effects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import structlog
import torch

from atp.attribution.ablation import ActivationSums
from atp.attribution.batches import Batch, plan
from atp.attribution.capture import measure
from atp.attribution.divergence import divergence
from atp.intervention.ablate import ablated
from atp.model.device_memory import is_out_of_memory
from atp.model.halving import in_halves
from atp.runtime.live import phase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from atp.attribution.contrasts import Contrast
    from atp.intervention.ablate import FeatureSet
    from atp.intervention.metric_changes import Floats
    from atp.model.dictionaries.loading import Dictionary
    from atp.model.halving import Failure
    from atp.model.language_model import Model
    from atp.model.pair_tokenizer import Text

Item = TypeVar("Item")
Result = TypeVar("Result")

log = structlog.get_logger()


@dataclass(frozen=True)
class SideEffects:
    """How an ablation changes responses that it should leave alone; sums over their tokens."""

    kl: float
    nll_before: float
    nll_after: float
    tokens: int
    texts: int  # fewer than were given where one does not fit into memory

    def as_json(self) -> dict[str, Any] | None:
        """Return means over the tokens; None where there is no token, or one is not finite."""
        if self.tokens == 0 or not math.isfinite(self.kl + self.nll_before + self.nll_after):
            return None
        try:
            before, after = (math.exp(n / self.tokens) for n in (self.nll_before, self.nll_after))
        except OverflowError:  # the model is beyond all use
            return None
        return {
            "texts": self.texts,
            "tokens": self.tokens,
            "kl_per_token": self.kl / self.tokens,
            "perplexity_before": before,
            "perplexity_after": after,
        }


@dataclass(frozen=True)
class AblationRunner:
    """A model, and how it is ablated and run."""

    model: Model
    batch_tokens: int
    strength: float
    first_position: bool

    def without(self, sets: Sequence[FeatureSet]) -> AbstractContextManager[None]:
        """Have the model run without these features."""
        return ablated(self.model, sets, self.strength, first_position=self.first_position)

    def in_halves(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        batch: Sequence[Item],
        tokens: Callable[[Item], int],
    ) -> list[Result | None]:
        """Return the result of each item; None where it does not fit into memory even alone."""

        def log_retry(failure: Failure, batch: Sequence[Item]) -> None:
            total = sum(map(tokens, batch))
            log.warning("oom.retry", pairs=len(batch), error="OOM", tokens=total, **failure.memory)

        return in_halves(
            self.model,
            work,
            batch,
            stand_in=lambda *_: None,
            is_fault=is_out_of_memory,
            before_retry=log_retry,
        )

    def metrics(self, contrasts: Sequence[Contrast]) -> Floats:
        """Return the metric of each contrast; NaN where it does not fit or is not finite."""
        metrics = np.full(len(contrasts), np.nan)
        whole = not self.model.keeps_all_keys

        def work(batch: Sequence[Contrast]) -> list[float]:
            tensors = Batch.of(batch, self.model.device, whole=whole)
            return list(measure(self.model, tensors).tolist())

        for indices in plan(contrasts, self.batch_tokens, whole=whole):
            batch = [contrasts[i] for i in indices]
            values = self.in_halves(work, batch, lambda contrast: contrast.read)
            metrics[indices] = [np.nan if value is None else value for value in values]
        metrics[~np.isfinite(metrics)] = np.nan
        return metrics

    def mean_activations(
        self, dictionaries: Sequence[Dictionary], contrasts: Sequence[Contrast]
    ) -> list[Floats]:
        """Return each SAE's mean activations over all positions of these texts that are ablated."""
        sums = [ActivationSums(sae.sae, sae.d_sae, sae.view) for sae in dictionaries]
        hooks = [(sae.hook_name, of_sae) for sae, of_sae in zip(dictionaries, sums, strict=True)]

        def work(rows: Sequence[tuple[int, ...]]) -> list[None]:
            ids, mask = _padded(rows, self.model.device)
            for of_sae in sums:
                of_sae.mask = mask.clone()
                of_sae.mask[:, 0] = int(self.first_position)
            self._hidden(ids, mask)
            for of_sae in sums:
                of_sae.keep()
            return [None] * len(rows)

        rows = [contrast.tokens for contrast in contrasts]
        with self.model.hooks(hooks):
            for batch in batches_of(rows, len, self.batch_tokens):
                self.in_halves(work, batch, len)
        return [of_sae.means.numpy() for of_sae in sums]

    def side_effects(
        self, texts: Sequence[Text], ablations: Sequence[Sequence[FeatureSet]]
    ) -> list[SideEffects]:
        """Compare the passes over texts with those of each ablation, on the responses' tokens."""
        sums = np.zeros((len(ablations), 5))

        def work(batch: Sequence[Text]) -> list[None]:
            of_batch = self._side_effects(batch, ablations)
            sums[:] += of_batch  # only when every pass over the batch has succeeded
            return [None] * len(batch)

        with phase("comparing the base responses", len(texts), unit="texts") as line:
            for batch in batches_of(texts, _length, self.batch_tokens):
                self.in_halves(work, batch, _length)
                line.advance(len(batch))
        return [
            SideEffects(kl, nll_before, nll_after, int(tokens), int(count))
            for kl, nll_before, nll_after, tokens, count in sums.tolist()
        ]

    def _side_effects(
        self, texts: Sequence[Text], ablations: Sequence[Sequence[FeatureSet]]
    ) -> Floats:
        ids, mask = _padded([text.tokens for text in texts], self.model.device)
        positions = torch.arange(ids.shape[1] - 1, device=ids.device)
        starts = torch.tensor([text.prompt_length - 1 for text in texts], device=ids.device)
        # The positions that predict a token of the response.
        predicts = (positions >= starts[:, None]) & mask[:, 1:].bool()  # (batch, length - 1)
        tokens = ids[:, 1:][predicts]
        before = self._hidden(ids, mask)[:, :-1][predicts]
        rows = []
        for sets in ablations:
            with self.without(sets):
                after = self._hidden(ids, mask)[:, :-1][predicts]
            change = divergence(self.model.head, before, after, tokens)
            columns = (change.kl, change.nll_before, change.nll_after)
            rows.append([*(float(column.sum()) for column in columns), len(tokens), len(texts)])
        return np.array(rows).reshape(len(ablations), 5)

    @torch.no_grad()
    def _hidden(self, ids: Tensor, mask: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        return self.model.hidden(ids, mask, positions, None)


def batches_of(
    items: Sequence[Item], tokens: Callable[[Item], int], batch_tokens: int
) -> list[list[Item]]:
    """Group texts by length, longest first, in padded batches; one over the budget goes alone."""
    batches: list[list[Item]] = []
    for item in sorted(items, key=tokens, reverse=True):  # in their order where lengths are equal
        if batches and (len(batches[-1]) + 1) * tokens(batches[-1][0]) <= batch_tokens:
            batches[-1].append(item)
        else:
            batches.append([item])
    return batches


def _length(text: Text) -> int:
    return len(text.tokens)


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids and mask of whole texts, padded on the right."""
    width = max(map(len, rows))
    ids = [[*row, *[0] * (width - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
