"""The numbers of one SAE for a batch of captured pairs: scores, effects, integrated gradients.

Tensors in, tensors out; analysis_json.py turns them into `atp_analysis`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from atp.attribution.exact_effects import Effects, exact_effects, removal_effects
from atp.attribution.integrated import IntegratedGradients, integrate
from atp.attribution.patched_run import PatchedRun
from atp.attribution.scores import Lengths, Scores, score, top_features
from atp.scoring.exact import Removed, remove

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    removed: list[Removed] = field(default_factory=list)  # one a pair, for --exact
    together: list[float] = field(default_factory=list)
    """The effect of removing chosen features together, one a pair."""
    has_skip: bool = False

    @property
    def effects(self) -> Tensor:
        """The effect of each feature, (pair, d_sae); NaN where it was not removed."""
        return effects_of(self.removed, self.scores.scores)


def effects_of(removed: Sequence[Removed], like: Tensor) -> Tensor:
    """Return the effects of removed features in a table (pair, d_sae), NaN elsewhere."""
    table = torch.full_like(like, torch.nan)
    for row, of_pair in zip(table, removed, strict=True):
        row[of_pair.measured.features] = of_pair.measured.effects
    return table


@dataclass(frozen=True)
class DictionaryScorer:
    """Scores the pairs of a batch with one SAE."""

    model: Model
    dictionary: Dictionary
    method: Method
    top_k: int
    chunk_tokens: int  # most tokens of variants in a pass
    lengths: Lengths

    def score(
        self,
        captured: Capture,
        base: Tensor | None = None,
        mean: Tensor | None = None,
        together: Tensor | None = None,
    ) -> DictionaryScores:
        """Score the features of captured pairs; at more positions than the last, of one pair.

        `base` holds the activations on each pair's base prompt, (pair, d_sae), and `mean` those
        over the input's base prompts, (d_sae,). The features `together` are removed at once.
        """
        sae, pairs = self.dictionary.sae, len(captured.metric)
        baseline = base if self.method.baseline == "base" else None
        if self.method.baseline == "mean" and mean is not None:
            baseline = mean.expand(pairs, -1)
        x, y, g = self._at_hook_points(captured)
        skip = self.dictionary.skip(x)
        at_positions = score(sae, x, g, self.lengths, baseline, y=y, skip=skip)
        # Pairs that are scored together have as many positions each.
        x_of_pairs, delta = (
            table.view(pairs, -1, *table.shape[1:])
            for table in (x, self._delta(at_positions, baseline))
        )
        run = self._run(captured)
        integrated: list[IntegratedGradients] = []
        if self.method.name == "ig":
            integrated = integrate(run, sae, x_of_pairs, delta, self.method.ig_steps)
            g = torch.cat([path.gradient for path in integrated])
            at_positions = score(sae, x, g, self.lengths, baseline, y=y, skip=skip)
        scores = at_positions if self.method.position == "last" else at_positions.summed()
        removed: list[Removed] = []
        if self.method.exact != "none":
            scales = (y.double() * g.double()).abs().view(pairs, -1).sum(dim=1)
            removed = remove(run, sae, self.method, x_of_pairs, delta, scores, self.top_k, scales)
        joint: list[float] = []
        if together is not None:
            removals = [(pair, together) for pair in range(pairs)]
            joint = removal_effects(run, sae, x_of_pairs, delta, removals)[0].tolist()
        return DictionaryScores(
            captured,
            self.method,
            at_positions,
            scores,
            self._listed(scores.scores, removed),
            baseline,
            base,
            integrated,
            removed,
            joint,
            has_skip=skip is not None,
        )

    def effects(self, captured: Capture, features: Tensor) -> Effects:
        """Remove some features of one captured pair, in turn and together."""
        x, y, g = self._at_hook_points(captured)
        found = score(self.dictionary.sae, x, g, self.lengths, y=y)
        delta = self._delta(found, None)[None]
        (effects,) = exact_effects(
            self._run(captured), self.dictionary.sae, x[None], delta, [features], joint=True
        )
        return effects

    def _at_hook_points(self, captured: Capture) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the SAE reads, what the model has where it writes, and the gradient there."""
        x = self.dictionary.read(captured.residuals)
        y = self.dictionary.written(captured.residuals)
        return x, y, self.dictionary.at_writes(captured.gradients)

    def _run(self, captured: Capture) -> PatchedRun:
        return PatchedRun(self.model, captured, self.dictionary.writes, self.chunk_tokens)

    @staticmethod
    def _delta(found: Scores, baseline: Tensor | None) -> Tensor:
        return -found.activations if baseline is None else baseline - found.activations

    def _listed(self, scores: Tensor, removed: Sequence[Removed]) -> Tensor:
        """Return the ids of each pair's largest |effect| where it is measured, else |score|."""
        if not removed:
            return top_features(scores, self.top_k)
        effects = effects_of(removed, scores)
        if self.method.exact == "all":  # each listed feature has an effect, be it 0
            effects = effects.abs().clamp(min=torch.finfo(effects.dtype).tiny)
            scores = torch.zeros_like(scores)
        return top_features(torch.where(effects.isnan(), scores, effects), self.top_k)


def lengths_of(model: Model, dictionary: Dictionary) -> Lengths:
    """Return how long steps along an SAE's features are, as the next norm sees them."""
    size = dictionary.sae.W_dec.shape[1:].numel() // len(dictionary.writes)
    of_points = [model.next_norm_weights(name) for name in dictionary.writes]
    weights = torch.cat(
        [torch.ones(size, device=model.device) if one is None else one for one in of_points]
    )
    return Lengths(weights, dictionary.norms(weights))


@torch.no_grad()
def activations(dictionary: Dictionary, residuals: Tensor) -> Tensor:
    """Return the activations of an SAE on what it reads, (n, *hook) -> (n, d_sae)."""
    encoded: Tensor = dictionary.sae.encode(dictionary.view(residuals).float())
    return encoded
