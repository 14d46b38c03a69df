"""The scores of all features, kept as a scorer hands them out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from atp.dataset.journal import outcome
from atp.model.pair_tokenizer import TokenizedPair

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jaxtyping import Float
    from torch import Tensor

    from atp.dataset.journal import Analysis
    from atp.model.dictionaries.loading import Dictionary
    from atp.scoring.dictionary_scorer import DictionaryScores


@dataclass
class Tables:
    """The metric of each pair; the scores and activations of all features, by SAE."""

    metric: Float[Tensor, " pair"]
    scores: list[Float[Tensor, "pair d_sae"]]
    activations: list[Float[Tensor, "pair d_sae"]]
    pairs: int = 0  # those of the windows so far
    _numbers: dict[int, int] = field(default_factory=dict)  # of each SAE, by its identity
    _rows: dict[int, int] = field(default_factory=dict)  # of each pair of the window, likewise

    @classmethod
    def of(cls, dictionaries: Iterable[Dictionary], pairs: int) -> Tables:
        """Return tables of NaN, with a row for each pair."""
        saes = list(dictionaries)
        scores, activations = (
            [torch.full((pairs, sae.d_sae), torch.nan) for sae in saes] for _ in range(2)
        )
        numbers = {id(sae): number for number, sae in enumerate(saes)}
        return cls(torch.full((pairs,), torch.nan), scores, activations, _numbers=numbers)

    def expect(self, items: Iterable[TokenizedPair | Analysis]) -> None:
        """Give the pairs of the next window their rows."""
        numbered = list(enumerate(items, start=self.pairs))
        self._rows = {id(item): row for row, item in numbered if isinstance(item, TokenizedPair)}
        self.pairs += len(numbered)

    def observe(
        self, dictionary: Dictionary, pairs: Sequence[TokenizedPair], found: DictionaryScores
    ) -> None:
        """Fill the rows of some pairs."""
        rows = [self._rows[id(pair)] for pair in pairs]
        number = self._numbers[id(dictionary)]
        self.scores[number][rows] = found.scores.scores.detach().cpu()
        self.activations[number][rows] = found.scores.activations.detach().cpu()
        self.metric[rows] = found.captured.metric.cpu()

    def clear_unscored(self, analyses: Sequence[list[Analysis]]) -> None:
        """Set the rows of pairs whose analysis is an error back to NaN."""
        for row, of_pair in enumerate(analyses):
            for number, analysis in enumerate(of_pair):
                if outcome(analysis) != "scored":
                    self.scores[number][row] = self.activations[number][row] = torch.nan
            if all(outcome(analysis) != "scored" for analysis in of_pair):
                self.metric[row] = torch.nan
