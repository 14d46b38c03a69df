"""Scorer: batches of tokenised pairs become one analysis for each pair and SAE.

A run and a notebook both score through it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from atp.attribution.batches import Batch
from atp.attribution.capture import Capture, capture
from atp.config.method import Method
from atp.model.token_texts import TokenTexts
from atp.scoring.analysis_json import pair_analyses
from atp.scoring.base_prompts import BasePrompts, mean_activations, summed_activations, windows_of
from atp.scoring.dictionary_scorer import DictionaryScorer, activations, lengths_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torch import Tensor

    from atp.attribution.scores import Lengths
    from atp.dataset.journal import Analysis
    from atp.model.dictionaries.loading import Dictionary
    from atp.model.dictionaries.placement import Dictionaries
    from atp.model.language_model import Model
    from atp.model.pair_tokenizer import TokenizedPair
    from atp.scoring.dictionary_scorer import DictionaryScores


@dataclass(frozen=True)
class CapturedBatch:
    """A batch of pairs and the numbers of its pass."""

    pairs: Sequence[TokenizedPair]
    captured: Capture
    base_residuals: dict[str, Tensor] | None = None
    """Each hook point's output at the last token of each pair's base prompt, (pair, *hook)."""

    def halves(self) -> tuple[CapturedBatch, CapturedBatch]:
        """Return the first and the second half of the pairs."""
        half = len(self.pairs) // 2
        return self._part(slice(None, half)), self._part(slice(half, None))

    def _part(self, which: slice) -> CapturedBatch:
        base = self.base_residuals
        if base is not None:
            base = {name: rows[which] for name, rows in base.items()}
        return CapturedBatch(self.pairs[which], self.captured.pairs(which), base)


@dataclass
class Scorer:
    """A model, its SAEs and the method of scoring."""

    model: Model
    dictionaries: Dictionaries
    top_k: int
    method: Method = field(default_factory=Method)
    batch_tokens: int = 2048
    """Most tokens of base prompts, or of variants of a pair, in a pass."""
    means: Sequence[Tensor] = ()
    """Each SAE's mean activations over base prompts, for --baseline=mean."""
    observe: Callable[[Dictionary, Sequence[TokenizedPair], DictionaryScores], None] | None = None
    """Takes the scores of all features of some pairs; again where a batch is scored again."""
    together: Mapping[tuple[str, str], Tensor] = field(default_factory=dict)
    """Ids of features to remove together from each pair, by hook point and hash of their SAE."""
    base_prompts: BasePrompts = field(init=False)
    """The base prompts of a window of pairs, for methods that read them."""
    _lengths: dict[int, Lengths] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = self.dictionaries.read_points
        self.base_prompts = BasePrompts(self.model, names)

    @property
    def resumable(self) -> bool:
        """Whether pairs are run again from a hook point on."""
        return self.method.needs_patched_runs or bool(self.together)

    def take_means(self, prompts: Iterable[tuple[int, ...]]) -> None:
        """Take the mean of each feature's activation over base prompts."""
        sums = ((self.sums(window), len(window)) for window in windows_of(prompts))
        self.means = mean_activations(sums, [each.label for each in self.dictionaries])

    def sums(self, prompts: Sequence[tuple[int, ...]]) -> list[Tensor]:
        """Return for each SAE the sum of its activations over some base prompts."""
        return summed_activations(self.model, self.dictionaries, prompts, self.batch_tokens)

    def capture(self, pairs: Sequence[TokenizedPair]) -> CapturedBatch:
        """Run the model once over a batch of pairs, and keep what its hook points held."""
        contrasts = [pair.contrast for pair in pairs]
        whole = not self.model.keeps_all_keys
        tensors = Batch.of(contrasts, self.model.device, self.method.position, whole=whole)
        base = None
        if self.method.reads_base_prompts:  # first: a resumable capture occupies memory
            prompts = [pair.base_prompt for pair in pairs if pair.base_prompt is not None]
            base = self.base_prompts.residuals(prompts)
        captured = capture(
            self.model,
            tensors,
            self.dictionaries.written_points,
            read_only=self.dictionaries.read_only_points,
            resume_at=self.dictionaries.lowest_points if self.resumable else (),
        )
        return CapturedBatch(pairs, captured, base)

    def analyse(self, batches: Sequence[CapturedBatch]) -> list[list[Analysis]]:
        """Score captured batches with every SAE, one SAE after the other.

        Each pair gets one analysis for each SAE. A number that is not finite makes an error of that
        pair and SAE alone.
        """
        means: Sequence[Tensor | None] = self.means or [None] * len(self.dictionaries)
        by_dictionary: list[list[Analysis]] = []
        for dictionary, mean in zip(self.dictionaries, means, strict=True):
            analyses: list[Analysis] = []
            with self.dictionaries.on_device(dictionary):
                scorer = self.of_dictionary(dictionary)
                for batch in batches:
                    analyses += self._analyse(scorer, batch, dictionary, mean)
            by_dictionary.append(analyses)
        return [list(of_pair) for of_pair in zip(*by_dictionary, strict=True)]

    def of_dictionary(self, dictionary: Dictionary) -> DictionaryScorer:
        """Return the scorer of an SAE, which is on the device now."""
        name = id(dictionary)
        if name not in self._lengths:  # once: it takes a pass over the decoder
            self._lengths[name] = lengths_of(self.model, dictionary)
        how = (self.method, self.top_k, self.batch_tokens, self._lengths[name])
        return DictionaryScorer(self.model, dictionary, *how)

    def _analyse(
        self,
        scorer: DictionaryScorer,
        batch: CapturedBatch,
        dictionary: Dictionary,
        mean: Tensor | None,
    ) -> list[Analysis]:
        base = None
        if batch.base_residuals is not None:
            base = activations(dictionary, batch.base_residuals[dictionary.hook_name])
        sae = dictionary.hook_name, dictionary.origin.get("sha256", "")
        together = self.together.get(sae)
        if self.method.position == "last":
            scores = scorer.score(batch.captured, base, mean, together)
            return self._described(dictionary, batch.pairs, scores)
        analyses: list[Analysis] = []
        for pair in range(len(batch.pairs)):  # their positions differ in number
            which = slice(pair, pair + 1)
            base_of_pair = None if base is None else base[which]
            captured = batch.captured.pairs(which)
            scores = scorer.score(captured, base_of_pair, together=together)
            analyses += self._described(dictionary, batch.pairs[which], scores)
        return analyses

    @cached_property
    def _token_texts(self) -> TokenTexts:
        return TokenTexts(self.model.tokenizer)

    def _described(
        self, dictionary: Dictionary, pairs: Sequence[TokenizedPair], scores: DictionaryScores
    ) -> list[Analysis]:
        if self.observe is not None:
            self.observe(dictionary, pairs, scores)
        prompt_tokens = None
        if self.method.position == "all":
            contrast = pairs[0].contrast
            prompt_tokens = self._token_texts(contrast.tokens[: contrast.prompt_length])
        return pair_analyses(pairs, scores, prompt_tokens)
