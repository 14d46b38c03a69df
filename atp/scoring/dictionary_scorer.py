"""The numbers of one SAE for a batch of captured pairs: scores, effects, integrated gradients.

Tensors in, tensors out; analysis_json.py turns them into `atp_analysis`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from atp.attribution.exact_effects import Effects, exact_effects
from atp.attribution.integrated import IntegratedGradients, integrate
from atp.attribution.patched_run import PatchedRun, patched_run
from atp.attribution.scores import Scores, score, top_features

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from atp.attribution.capture import Capture
    from atp.config.method import Method
    from atp.model.dictionaries.loading import Dictionary
    from atp.model.language_model import Model


@dataclass(frozen=True)
class DictionaryScores:
    """The numbers of one SAE for some pairs."""

    captured: Capture
    method: Method
    at_positions: Scores  # a row for each position of a pair
    scores: Scores  # a row for each pair: the sums over its positions
    top: Tensor  # the ids of the listed features, (pair, k)
    baseline: Tensor | None = None
    """The activations that scores are measured from, (pair, d_sae); None for zero."""
    base_activations: Tensor | None = None
    """The activations on each pair's base prompt, (pair, d_sae), where these are run."""
    integrated: list[IntegratedGradients] = field(default_factory=list)
    """One a pair, for --method=ig."""
    effects: list[Effects] = field(default_factory=list)  # one a pair, for --exact


@dataclass(frozen=True)
class DictionaryScorer:
    """Scores the pairs of a batch with one SAE."""

    model: Model
    dictionary: Dictionary
    method: Method
    top_k: int
    chunk_tokens: int  # most tokens of variants of a pair in a pass

    def score(
        self,
        captured: Capture,
        base: Tensor | None = None,
        mean: Tensor | None = None,
        features: Tensor | None = None,
    ) -> DictionaryScores:
        """Score the features of captured pairs; at more positions than the last, of one pair.

        `base` holds the activations on each pair's base prompt, (pair, d_sae), and `mean` those
        over the input's base prompts, (d_sae,). `features` are the ids to list; by default the
        `top_k` of each pair by |score|.
        """
        sae, pairs = self.dictionary.sae, len(captured.metric)
        baseline = base if self.method.baseline == "base" else None
        if self.method.baseline == "mean" and mean is not None:
            baseline = mean.expand(pairs, -1)
        hook_name = self.dictionary.hook_name
        x = self.dictionary.view(captured.residuals[hook_name])
        g = self.dictionary.view(captured.gradients[hook_name])
        at_positions = score(sae, x, g, baseline)
        delta = -at_positions.activations
        if baseline is not None:
            delta = baseline - at_positions.activations
        integrated: list[IntegratedGradients] = []
        if self.method.name == "ig":
            integrated = [
                integrate(run, sae, x[where], delta[where], metric, self.method.ig_steps)
                for run, where, metric in self._runs(captured)
            ]
            g = torch.cat([path.gradient for path in integrated])
            at_positions = score(sae, x, g, baseline)
        scores = at_positions if self.method.position == "last" else at_positions.summed()
        if features is None:
            top = top_features(scores.scores, self.top_k)  # (pair, k)
        else:
            top = features.expand(pairs, -1)
        effects: list[Effects] = []
        if self.method.exact:
            effects = [
                exact_effects(run, sae, x[where], delta[where], metric, ids)
                for (run, where, metric), ids in zip(self._runs(captured), top, strict=True)
            ]
        return DictionaryScores(
            captured, self.method, at_positions, scores, top, baseline, base, integrated, effects
        )

    def _runs(self, captured: Capture) -> Iterator[tuple[PatchedRun, slice, float]]:
        """Yield each pair ready to be run again, its positions, and its metric."""
        start = 0
        metrics = captured.metric.tolist()
        for pair, (count, metric) in enumerate(zip(captured.counts, metrics, strict=True)):
            run = patched_run(
                self.model, captured, pair, self.dictionary.hook_name, self.chunk_tokens
            )
            yield run, slice(start, start + count), metric
            start += count


@torch.no_grad()
def activations(dictionary: Dictionary, residuals: Tensor) -> Tensor:
    """Return the activations of an SAE on its hook point's output, (n, *hook) -> (n, d_sae)."""
    encoded: Tensor = dictionary.sae.encode(dictionary.view(residuals).float())
    return encoded
