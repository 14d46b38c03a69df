"""Base prompts, as a run would read them: for a mean, before its first batch; then in each window.

Windows and batches are those of atp/scoring/base_prompts.py, so that the counts are exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from atp.config.method import no_mean
from atp.dataset.pairs import BrokenPair

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from atp.config.method import Method
    from atp.dataset.pairs import Pair
    from atp.model.pair_tokenizer import PairTokenizer, TokenizedPair

    Prompt = tuple[int, ...]
    """Token ids."""


@dataclass
class BasePromptWork:
    """What a run would do with base prompts; nothing, where its method does not ask for them."""

    pair_tokenizer: PairTokenizer
    method: Method
    batch_tokens: int
    computed_tokens: int = 0
    """Tokens that run through the model for them, padding included."""
    prompts: int = 0
    """How many are run; one that is read for the mean and for a pair, too, counts twice."""
    of_mean: int = 0
    """How many a mean would be taken over."""
    _question: int | None = None
    _window: list[Prompt] = field(default_factory=list)

    def use(self, pair: Pair | BrokenPair) -> None:
        """Take the next pair; the first whole one of a question gives a prompt of the mean."""
        if self.method.baseline != "mean" or isinstance(pair, BrokenPair):
            return
        if pair.key.question == self._question:
            return
        from atp.config.settings import WINDOW_PAIRS  # noqa: PLC0415

        self._question = pair.key.question
        found = self.pair_tokenizer.prompt(pair.base_prompt)
        if not isinstance(found, tuple):
            return
        self.of_mean += 1
        self._window.append(found)
        if len(self._window) == WINDOW_PAIRS:
            self._plan_mean()

    def plan_window(self, window: Sequence[TokenizedPair], mine: Sequence[TokenizedPair]) -> None:
        """Plan the base prompts of a window of pairs.

        Args:
            window: all of its pairs that have a contrast.
            mine: those among them that are this shard's.
        """
        if self.method.reads_base_prompts:
            wanted = {item.base_prompt for item in mine}
            self._plan([item.base_prompt for item in window if item.base_prompt], wanted)

    def finish(self, path: Path, pairs: int) -> None:
        """Plan what is left of the mean.

        Args:
            path: the input.
            pairs: of the run.

        Raises:
            InputError: there is nothing to take a mean of, and the run would refuse the input.
        """
        self._plan_mean()
        if self.method.baseline == "mean" and pairs and not self.of_mean:
            raise no_mean(path)

    def _plan_mean(self) -> None:
        window, self._window = self._window, []
        self._plan(window, set(window))

    def _plan(self, prompts: Iterable[Prompt], wanted: set[Prompt | None]) -> None:
        from atp.attribution.batches import computed_tokens, plan  # noqa: PLC0415  (imports torch)
        from atp.attribution.prompts import as_contrast  # noqa: PLC0415  (as above)

        distinct = list(dict.fromkeys(prompts))
        contrasts = [as_contrast(prompt) for prompt in distinct]
        for indices in plan(contrasts, self.batch_tokens):
            if wanted.isdisjoint(distinct[i] for i in indices):
                continue  # of other shards alone
            self.prompts += len(indices)
            self.computed_tokens += computed_tokens([contrasts[i] for i in indices])
