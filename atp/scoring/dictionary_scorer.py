"""One SAE's part of a reading: scores by the method that is asked for, what they are checked by.

Tensors come in from the passes, analyses go out. Scores at a prompt's last token are taken for all
pairs of a batch at once; at more positions, and where a pair is run again, pair by pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from atp.attribution.effects import Effects, exact_effects
from atp.attribution.integrated import IntegratedGradients, integrate
from atp.attribution.patched_run import PatchedRun, patched_run
from atp.attribution.scores import Scores, score, top_features
from atp.scoring.analysis_json import Listing, analyses_of, shortest
from atp.stats.agreement import agreement

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from atp.attribution.capture import Capture
    from atp.config.method import Method
    from atp.dataset.journal import Analysis
    from atp.model.dictionaries.loading import Dictionary
    from atp.model.language_model import Model
    from atp.model.pair_tokenizer import TokenizedPair

STRONGEST_POSITIONS = 3
"""How many are told of each listed feature, where features are read at several."""


@dataclass(frozen=True)
class Rater:
    """A model, one of its SAEs, and how its features are scored."""

    model: Model
    dictionary: Dictionary
    method: Method
    top_k: int
    chunk_tokens: int
    """Most tokens of variants of a pair in a pass."""

    def __call__(
        self,
        batch: Sequence[TokenizedPair],
        found: Capture,
        base: Tensor | None,
        mean: Tensor | None,
    ) -> list[Analysis]:
        """Score the features of a batch of pairs.

        Args:
            batch: the pairs.
            found: what their pass has captured.
            base: activations at the last token of each pair's base prompt, (pair, d_sae).
            mean: the mean of these over the input, (d_sae,).
        """
        baseline = base if self.method.baseline == "base" else None
        if self.method.baseline == "mean" and mean is not None:
            baseline = mean.expand(len(batch), -1)
        if self.method.position == "last":
            return self._rate(batch, found, baseline, base)
        analyses: list[Analysis] = []
        for pair in range(len(batch)):
            which = slice(pair, pair + 1)
            of_pair = None if base is None else base[which]
            analyses += self._rate(batch[which], found.pairs(which), None, of_pair)
        return analyses

    def _rate(
        self,
        batch: Sequence[TokenizedPair],
        found: Capture,
        baseline: Tensor | None,
        base: Tensor | None,
    ) -> list[Analysis]:
        """Score pairs of one place each, or a single pair."""
        x, g = self._view(found.residuals), self._view(found.gradients)
        at_places = score(self.dictionary.sae, x, g, baseline)
        delta_activations = (
            -at_places.activations if baseline is None else baseline - at_places.activations
        )
        paths: list[IntegratedGradients] = []
        if self.method.name == "ig":
            paths = [
                integrate(
                    replay,
                    self.dictionary.sae,
                    x[at],
                    delta_activations[at],
                    metric,
                    self.method.ig_steps,
                )
                for replay, at, metric in self._replays(found)
            ]
            g = torch.cat([path.gradient for path in paths])
            at_places = score(self.dictionary.sae, x, g, baseline)
        scores = at_places if self.method.position == "last" else at_places.summed()
        top = top_features(scores.scores, self.top_k)  # (pair, k)
        effects: list[Effects] = []
        if self.method.exact:
            effects = [
                exact_effects(
                    replay, self.dictionary.sae, x[at], delta_activations[at], metric, features
                )
                for (replay, at, metric), features in zip(self._replays(found), top, strict=True)
            ]
        columns = {}
        if baseline is not None:
            columns["base_activation"] = baseline.gather(1, top)
        if effects:
            columns["effect"] = torch.stack([each.effects for each in effects])
        listing = Listing(
            top,
            columns,
            self._diagnostics(scores, top, paths, effects),
            self._prompt_activations(batch, found, at_places, base),
            []
            if self.method.position == "last"
            else [_strongest(at_places, top[0], found, batch[0])],
        )
        return analyses_of(batch, found.metric, scores, listing)

    def _view(self, tables: dict[str, Tensor]) -> Tensor:
        return self.dictionary.view(tables[self.dictionary.hook_name])

    def _replays(self, found: Capture) -> Iterator[tuple[PatchedRun, slice, float]]:
        """Yield each pair ready to be run again, its places, and its metric."""
        start = 0
        for pair, (count, metric) in enumerate(
            zip(found.counts, found.metric.tolist(), strict=True)
        ):
            replay = patched_run(
                self.model, found, pair, self.dictionary.hook_name, self.chunk_tokens
            )
            yield replay, slice(start, start + count), metric
            start += count

    def _diagnostics(
        self,
        scores: Scores,
        top: Tensor,
        paths: Sequence[IntegratedGradients],
        effects: Sequence[Effects],
    ) -> list[dict[str, Any]]:
        """Return what tells of each pair how far its scores can be trusted."""
        found: list[dict[str, Any]] = [{} for _ in top] if paths or effects else []
        totals = scores.scores.double().sum(dim=1).tolist() if paths else []
        for diagnostics, path, total in zip(found, paths, totals, strict=False):
            gap = abs(total - path.change) / abs(path.change) if path.change else None
            diagnostics["path"] = {
                "change": shortest(path.change),
                "sum_of_scores": shortest(total),
                "completeness_gap": gap if gap is None else shortest(gap),
            }
        listed = scores.scores.gather(1, top)
        for diagnostics, each, of_pair in zip(found, effects, listed, strict=False):
            changed = each.changed > 0
            pairs = (of_pair[changed].tolist(), each.effects[changed].tolist())
            diagnostics["exact"] = {
                "features": int(changed.sum()),
                **{
                    name: value if value is None else shortest(value)
                    for name, value in agreement(*pairs).items()
                },
                "joint_effect": shortest(each.joint),
                "joint_score": shortest(float(of_pair.double().sum())),
                "noise_floor": shortest(each.noise_floor),
            }
        return found

    def _prompt_activations(
        self,
        batch: Sequence[TokenizedPair],
        found: Capture,
        at_places: Scores,
        base: Tensor | None,
    ) -> list[dict[str, Any]]:
        """Return, of each pair, the features that are active on the flagged or the base prompt."""
        if not self.method.prompt_activations or base is None:
            return []
        flagged = at_places.activations
        if self.method.position != "last":  # one pair: of its places, that of the last token
            at = found.positions.index((batch[0].contrast.prompt_length - 1, 0))
            flagged = flagged[at : at + 1]
        told = []
        for one, other in zip(flagged.cpu(), base.cpu(), strict=True):
            active = ((one != 0) | (other != 0)).nonzero()[:, 0]
            told.append(
                {
                    "prompt_activations": {
                        "ids": [str(feature) for feature in active.tolist()],
                        "flagged": [shortest(value) for value in one[active].tolist()],
                        "base": [shortest(value) for value in other[active].tolist()],
                    }
                }
            )
        return told


def _strongest(
    at_places: Scores, top: Tensor, found: Capture, pair: TokenizedPair
) -> list[list[dict[str, Any]]]:
    """Return where the listed features of one pair score most."""
    scores = at_places.scores[:, top].T.cpu()  # (k, place)
    activations = at_places.activations[:, top].T.cpu()
    order = scores.abs().sort(dim=1, descending=True, stable=True).indices[:, :STRONGEST_POSITIONS]

    def told(feature: int, place: int) -> dict[str, Any]:
        position, text = found.positions[place]
        of_answer = {"answer": ("flagged", "base")[text]}
        return {
            "position": position,
            **({} if position < pair.contrast.prompt_length else of_answer),
            "score": shortest(float(scores[feature, place])),
            "activation": shortest(float(activations[feature, place])),
        }

    return [
        [told(feature, place) for place in places if scores[feature, place] != 0]
        for feature, places in enumerate(order.tolist())
    ]
