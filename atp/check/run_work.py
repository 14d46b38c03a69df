"""The work of a run: what becomes of each pair, and what the batches compute.

Windows, contrasts and batches are those of a run, so the counts are exact.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import median_low
from typing import TYPE_CHECKING, Any

from atp.attribution.batches import computed_tokens, plan, shape_of
from atp.attribution.prompts import as_contrast
from atp.config.settings import WINDOW_PAIRS
from atp.config.shard import WHOLE
from atp.dataset.pairs import BrokenPair, Problem
from atp.model.pair_tokenizer import PairIssue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from atp.attribution.contrasts import Contrast
    from atp.check.findings import InputProblems
    from atp.config.method import Method
    from atp.config.settings import Settings
    from atp.config.shard import Shard
    from atp.dataset.pairs import Pair
    from atp.model.pair_tokenizer import PairTokenizer, TokenizedPair

    Prompt = tuple[int, ...]  # token ids

HINTS = {  # how to correct a pair that cannot be tokenised, by the error
    "Sequence too long": "Shorten the prompt, or use a model with a longer context.",
    "Empty prompt": "Write the prompt, or remove the flag.",
    "Chat template failed": "Change the prompt, or leave --chat-template out.",
    "Base prompt missing or not text": "Write the prompt of the question's base variation.",
}


@dataclass
class BasePromptWork:
    """Counts what a run does with base prompts; nothing if its method reads none."""

    pair_tokenizer: PairTokenizer
    method: Method
    batch_tokens: int
    whole: bool  # passes cover whole texts
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

    def plan_window(self, window: list[TokenizedPair], of_shard: list[TokenizedPair]) -> None:
        """Plan the base prompts of a window of pairs, and count those that the shard needs."""
        if self.method.reads_base_prompts:
            needed = {pair.base_prompt for pair in of_shard}
            self._plan([pair.base_prompt for pair in window if pair.base_prompt], needed)

    def _plan(self, prompts: Iterable[Prompt], needed: set[Prompt | None]) -> None:
        distinct = list(dict.fromkeys(prompts))
        contrasts = [as_contrast(prompt) for prompt in distinct]
        for indices in plan(contrasts, self.batch_tokens, whole=self.whole):
            if needed.isdisjoint(distinct[i] for i in indices):
                continue  # a batch that only other shards need
            self.prompts += len(indices)
            batch = [contrasts[i] for i in indices]
            self.computed_tokens += computed_tokens(batch, whole=self.whole)


@dataclass
class RunWork:
    """Counts what a run would do: `add` each pair, then `finish`."""

    pair_tokenizer: PairTokenizer
    settings: Settings
    batch_tokens: int
    problems: InputProblems  # receives the pairs that would end in an error
    window_pairs: int  # among which batches are made
    whole: bool = False  # passes cover whole texts
    shard: Shard = field(init=False)
    base_prompts: BasePromptWork = field(init=False)
    pairs: int = 0
    other_shards: int = 0  # pairs that other shards do
    scored: int = 0
    skips: Counter[str] = field(default_factory=Counter)  # by reason
    errors: Counter[str] = field(default_factory=Counter)  # by reason
    prompt_lengths: Counter[int] = field(default_factory=Counter)  # of all shards
    batches: int = 0
    computed_tokens: int = 0  # padding included
    gradient_tokens: int = 0  # of these, those that a backward pass goes through
    largest_batch_tokens: int = 0  # padding included
    longest_pair_tokens: int = 0  # in all texts of a pair
    read_positions: int = 0  # where features are read, over all pairs
    variant_tokens: int = 0  # in one variant of each pair, where passes are run again
    logprob_tokens: int = 0  # response tokens whose log-probability is taken
    _planned_batches: int = 0  # those of other shards included
    _window: list[TokenizedPair] = field(default_factory=list)

    def __post_init__(self) -> None:
        method = self.settings.scoring
        self.shard = self.settings.shard or WHOLE
        self.base_prompts = BasePromptWork(
            self.pair_tokenizer, method, self.batch_tokens, self.whole
        )

    def add(self, pair: Pair | BrokenPair) -> None:
        """Count the next pair of the input."""
        if self.pairs == self.settings.limit:
            return
        self.base_prompts.add(pair)
        self._tokenize(pair)
        self.pairs += 1
        if self.pairs % self.window_pairs == 0:
            self._plan_window()

    def finish(self) -> None:
        """Count the last window, and the base prompts of the mean."""
        self._plan_window()
        self.base_prompts.finish_mean()

    def _tokenize(self, pair: Pair | BrokenPair) -> None:
        if isinstance(pair, BrokenPair):
            self._count_unscored(self.errors, pair.error)
            return
        tokenized = self.pair_tokenizer(pair.prompt, pair.target_response, pair.base_response)
        if self.settings.scoring.reads_base_prompts:
            tokenized = self.pair_tokenizer.with_base_prompt(tokenized, pair.base_prompt)
        if not isinstance(tokenized, PairIssue):
            self.scored += 1  # until its batch turns out to be another shard's
            self.prompt_lengths[tokenized.contrast.prompt_length] += 1
            self._window.append(tokenized)
        elif tokenized.failed:
            self._count_unscored(self.errors, tokenized.reason)
            self.problems.add(_as_problem(pair, tokenized))
        else:
            self._count_unscored(self.skips, tokenized.reason)

    def _count_unscored(self, reasons: Counter[str], reason: str) -> None:
        if self.shard.does(self.pairs):
            reasons[reason] += 1
        else:
            self.other_shards += 1

    def _plan_window(self) -> None:
        window, self._window = self._window, []
        contrasts = [pair.contrast for pair in window]
        of_shard: list[TokenizedPair] = []
        position = self.settings.scoring.position
        for indices in plan(contrasts, self.batch_tokens, position, whole=self.whole):
            self._planned_batches += 1
            if self.shard.does(self._planned_batches - 1):
                of_shard += [window[i] for i in indices]
                self._count_batch([contrasts[i] for i in indices])
            else:
                self.scored -= len(indices)
                self.other_shards += len(indices)
        self.base_prompts.plan_window(window, of_shard)

    def _count_batch(self, batch: list[Contrast]) -> None:
        position = self.settings.scoring.position
        rows, width, tail = shape_of(batch, position)
        self.batches += 1
        self.computed_tokens += computed_tokens(batch, position, whole=self.whole)
        self.gradient_tokens += rows * (width if self.whole else tail)
        self.largest_batch_tokens = max(self.largest_batch_tokens, rows * width)
        for contrast in batch:
            texts, longest, _ = shape_of([contrast])
            self.longest_pair_tokens = max(self.longest_pair_tokens, texts * longest)
            tails = [row.tail for row in contrast.rows]
            self.read_positions += {
                "last": 1,
                "tail": 1 + sum(tails) - len(tails),  # both texts share the first position
                "all": max(1, contrast.prompt_length - contrast.bos),
            }[position]
            reads_all = self.whole or position == "all"
            self.variant_tokens += contrast.read if reads_all else sum(tails)
            self.logprob_tokens += 0 if contrast.sequences is None else sum(tails)

    @property
    def prompt_tokens(self) -> int:
        """The tokens of all prompts, of other shards, too."""
        return sum(length * count for length, count in self.prompt_lengths.items())

    def outcome_counts(self) -> dict[str, Any]:
        """Return how many pairs end how, as JSON values."""
        return {
            "total": self.pairs,
            "scored": self.scored,
            "skipped": self.skips.total(),
            "error": self.errors.total(),
            **({} if self.shard == WHOLE else {"elsewhere": self.other_shards}),
            "skips": dict(self.skips),
            "errors": dict(self.errors),
        }

    def tokens(self) -> dict[str, Any]:
        """Return the lengths of prompts and the computed tokens, as JSON values."""
        lengths = self.prompt_lengths
        return {
            "context": self.pair_tokenizer.n_ctx,
            "prompt": {
                "min": min(lengths, default=None),
                "median": median_low(lengths.elements()) if lengths else None,
                "max": max(lengths, default=None),
            },
            "computed": self.computed_tokens,
            "gradient": self.gradient_tokens,
            "base_prompts": self.base_prompts.computed_tokens,
            "batches": self.batches,
            "batch_tokens": self.batch_tokens,
        }


def _as_problem(pair: Pair, issue: PairIssue) -> Problem:
    details = issue.details
    message = f"{pair.key}: {issue.reason}"
    of_base_prompt = details.get("field") == "base prompt"
    if of_base_prompt and not issue.reason.startswith("Base prompt"):
        message += " (the base prompt)"
    for unit in ("tokens", "characters"):
        if unit in details:
            message += f": {details[unit]:,} {unit}, the model reads {details['context']:,} tokens"
    if "why" in details:
        message += f": {details['why']}"
    hint = HINTS.get(issue.reason, "Correct it, or remove the flag.")
    place = {**pair.key._asdict(), "field": None if of_base_prompt else "prompt"}
    return Problem(f"{message}.", hint, refused=False, **place)
