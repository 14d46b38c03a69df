"""The work of a run on base prompts, in the windows and batches of atp/scoring/base_prompts.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from atp.attribution.batches import computed_tokens, plan
from atp.attribution.prompts import as_contrast
from atp.config.settings import WINDOW_PAIRS
from atp.dataset.pairs import BrokenPair

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from atp.config.method import Method
    from atp.dataset.pairs import Pair
    from atp.model.pair_tokenizer import PairTokenizer, TokenizedPair

    Prompt = tuple[int, ...]  # token ids


@dataclass
class BasePromptWork:
    """Counts what a run does with base prompts; nothing if its method reads none."""

    pair_tokenizer: PairTokenizer
    method: Method
    batch_tokens: int
    computed_tokens: int = 0  # padding included
    prompts: int = 0  # that are run; one for both the mean and a pair counts twice
    mean_prompts: int = 0  # over which the mean is taken
    _question: int | None = None
    _mean_window: list[Prompt] = field(default_factory=list)

    def add(self, pair: Pair | BrokenPair) -> None:
        """Count the next pair for the mean: the first intact pair of each question."""
        if self.method.baseline != "mean" or isinstance(pair, BrokenPair):
            return
        if pair.key.question == self._question:
            return
        self._question = pair.key.question
        prompt = self.pair_tokenizer.prompt(pair.base_prompt)
        if isinstance(prompt, tuple):
            self.mean_prompts += 1
            self._mean_window.append(prompt)
        if len(self._mean_window) == WINDOW_PAIRS:
            self.finish_mean()

    def finish_mean(self) -> None:
        """Plan the batches of the prompts that the mean still needs."""
        window, self._mean_window = self._mean_window, []
        self._plan(window, set(window))

    def plan_window(
        self, window: Sequence[TokenizedPair], of_shard: Sequence[TokenizedPair]
    ) -> None:
        """Plan the base prompts of a window of pairs, and count those that the shard needs."""
        if self.method.reads_base_prompts:
            needed = {pair.base_prompt for pair in of_shard}
            self._plan([pair.base_prompt for pair in window if pair.base_prompt], needed)

    def _plan(self, prompts: Iterable[Prompt], needed: set[Prompt | None]) -> None:
        distinct = list(dict.fromkeys(prompts))
        contrasts = [as_contrast(prompt) for prompt in distinct]
        for indices in plan(contrasts, self.batch_tokens):
            if needed.isdisjoint(distinct[i] for i in indices):
                continue  # a batch that only other shards need
            self.prompts += len(indices)
            self.computed_tokens += computed_tokens([contrasts[i] for i in indices])
