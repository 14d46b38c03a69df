"""The answers of the input: all that is wrong with them, and what a run would make of them.

Windows, contrasts and batches are those of a run, so that the counts are exact; one window is in
memory at a time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from atp.check.base_prompt_work import BasePromptWork
from atp.config.method import Method
from atp.config.shard import WHOLE, Shard
from atp.dataset.pairs import BrokenPair, Problem

if TYPE_CHECKING:
    from atp.attribution.contrasts import Contrast
    from atp.dataset.pairs import Pair
    from atp.model.pair_tokenizer import PairIssue, PairTokenizer, TokenizedPair

MOST_KEPT = 10_000
"""Problems that are kept: memory must not grow with what is wrong with a file."""

HINTS = {
    "Sequence too long": "Shorten the prompt, or use a model with a longer context.",
    "Empty prompt": "Write the prompt, or take the flag away.",
    "Chat template failed": "Change the prompt, or leave --chat-template out.",
    "Base prompt missing or not text": "Write the prompt of the question's base variation.",
}
"""How to mend what makes an error of a pair when it is turned into tokens."""


@dataclass
class Problems:
    """What is wrong with the input: all of it counted, the first 10,000 kept."""

    kept: list[Problem] = field(default_factory=list)
    count: int = 0

    def tell(self, problem: Problem) -> None:
        """Take note of one."""
        self.count += 1
        if len(self.kept) < MOST_KEPT:
            self.kept.append(problem)

    def as_json(self) -> dict[str, Any]:
        """Return them as JSON values."""
        return {
            "problem_count": self.count,
            "truncated": self.count > len(self.kept),
            "problems": [
                {
                    "place": problem.place,
                    "question": problem.question,
                    "variation": problem.variation,
                    "field": problem.field,
                    "line": problem.line,
                    "message": problem.message,
                    "hint": problem.hint,
                    "run": "refuses the file" if problem.refused else "gives an error",
                }
                for problem in self.kept
            ],
        }


@dataclass
class Work:
    """What a run would do, counted while the pairs go by: `use` takes each, then `finish`.

    Args:
        pair_tokenizer: of the model.
        batch_tokens: the budget of a pass.
        limit: how many pairs the run is to do; all by default.
        problems: is told of the pairs that would end in an error.
    """

    pair_tokenizer: PairTokenizer
    batch_tokens: int
    limit: int | None
    problems: Problems
    window_pairs: int
    """Pairs among which batches are made."""
    shard: Shard = WHOLE
    """Of the pairs, those of other shards are counted as that."""
    method: Method = field(default_factory=Method)
    """How the run would score."""
    top_k: int = 50
    """Features that it would list for each pair."""
    tail: int | None = 20
    """About how many tokens at the end of a text carry gradients; None for all of it."""
    base_prompts: BasePromptWork = field(init=False)
    """What the run would do with base prompts."""
    pairs: int = 0
    elsewhere: int = 0
    scored: int = 0
    skips: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    prompt_lengths: Counter[int] = field(default_factory=Counter)
    """How many pairs to be scored, by any shard, have a prompt of so many tokens."""
    batches: int = 0
    computed_tokens: int = 0
    """Tokens that run through the model, padding included."""
    gradient_tokens: int = 0
    """Those among them that a backward pass goes through."""
    widest_tokens: int = 0
    """Tokens of the largest batch, padding included."""
    longest_tokens: int = 0
    """Of a single pair, both its texts where it has two."""
    places: int = 0
    """Where features are read, summed over the pairs to be scored."""
    variant_tokens: int = 0
    """Tokens of one variant of each of them, where passes are gone through again."""
    answer_tokens: int = 0
    """Tokens of theirs whose log-probability is taken."""
    _planned: int = 0
    """Batches, those of other shards included."""
    _window: list[TokenizedPair] = field(default_factory=list)
    _in_window: int = 0

    def __post_init__(self) -> None:
        """Make the count of base prompts."""
        self.base_prompts = BasePromptWork(self.pair_tokenizer, self.method, self.batch_tokens)

    def use(self, pair: Pair | BrokenPair) -> None:
        """Take the next pair."""
        if self.pairs == self.limit:
            return
        self.base_prompts.use(pair)
        self._read(pair)
        self.pairs += 1
        self._in_window += 1
        if self._in_window == self.window_pairs:
            self.finish()

    def _read(self, pair: Pair | BrokenPair) -> None:
        from atp.model.pair_tokenizer import PairIssue  # noqa: PLC0415  (imports torch)

        if isinstance(pair, BrokenPair):
            self._count(self.errors, pair.error)
            return
        found = self.pair_tokenizer(pair.prompt, pair.target_response, pair.base_response)
        if self.method.reads_base_prompts:
            found = self.pair_tokenizer.with_base_prompt(found, pair.base_prompt)
        if not isinstance(found, PairIssue):
            self.scored += 1  # until it is known to be another shard's
            self.prompt_lengths[found.contrast.prompt_length] += 1
            self._window.append(found)
        elif found.failed:
            self._count(self.errors, found.reason)
            self.problems.tell(_failed(pair, found))
        else:
            self._count(self.skips, found.reason)

    def _count(self, reasons: Counter[str], reason: str) -> None:
        """Count a pair that needs no batch."""
        if self.shard.does(self.pairs):
            reasons[reason] += 1
        else:
            self.elsewhere += 1

    def finish(self) -> None:
        """Plan the batches of the pairs so far; at the end, of the last window."""
        from atp.attribution.batches import plan  # noqa: PLC0415  (imports torch)

        window, self._window, self._in_window = self._window, [], 0
        mine: list[TokenizedPair] = []
        contrasts = [item.contrast for item in window]
        for indices in plan(contrasts, self.batch_tokens, self.method.position):
            batch = [contrasts[i] for i in indices]
            self._planned += 1
            if not self.shard.does(self._planned - 1):
                self.scored -= len(batch)
                self.elsewhere += len(batch)
                continue
            mine += [window[i] for i in indices]
            self._count_batch(batch)
        self.base_prompts.plan_window(window, mine)

    def _count_batch(self, batch: list[Contrast]) -> None:
        """Count what is computed for a batch of this shard."""
        from atp.attribution.batches import computed_tokens, shape_of  # noqa: PLC0415  (as above)

        position = self.method.position
        rows, width, tail = shape_of(batch, position)
        self.batches += 1
        self.computed_tokens += computed_tokens(batch, position)
        self.gradient_tokens += rows * tail
        self.widest_tokens = max(self.widest_tokens, rows * width)
        for contrast in batch:
            texts, longest, _ = shape_of([contrast])
            self.longest_tokens = max(self.longest_tokens, texts * longest)
            tails = [row.tail for row in contrast.rows]
            self.places += {
                "last": 1,
                "tail": 1 + sum(tails) - len(tails),  # both texts share the first place
                "all": max(1, contrast.prompt_length - contrast.bos),
            }[position]
            self.variant_tokens += contrast.read if position == "all" else sum(tails)
            self.answer_tokens += 0 if contrast.sequences is None else sum(tails)

    def outcome_counts(self) -> dict[str, Any]:
        """Return what a run would find, as JSON values; of a shard, which pairs are elsewhere."""
        return {
            "total": self.pairs,
            "scored": self.scored,
            "skipped": self.skips.total(),
            "error": self.errors.total(),
            **({} if self.shard == WHOLE else {"elsewhere": self.elsewhere}),
            "skips": dict(self.skips),
            "errors": dict(self.errors),
        }

    def tokens(self) -> dict[str, Any]:
        """Return the lengths of prompts and what a run would compute, as JSON values."""
        lengths = sorted(self.prompt_lengths)
        return {
            "context": self.pair_tokenizer.n_ctx,
            "prompt": {
                "min": lengths[0] if lengths else None,
                "median": _median(self.prompt_lengths),
                "max": lengths[-1] if lengths else None,
            },
            "computed": self.computed_tokens,
            "gradient": self.gradient_tokens,
            "base_prompts": self.base_prompts.computed_tokens,
            "batches": self.batches,
            "batch_tokens": self.batch_tokens,
        }


def _median(counts: Counter[int]) -> int | None:
    """Return the lower median of counted numbers."""
    seen, half = 0, (counts.total() + 1) // 2
    for number in sorted(counts):
        seen += counts[number]
        if seen >= half:
            return number
    return None


def _failed(pair: Pair, found: PairIssue) -> Problem:
    """Return the problem of a pair that would end in an error."""
    reason, details = found.reason, found.details
    if details.get("field") == "base prompt" and not reason.startswith("Base prompt"):
        reason += " (the base prompt)"
    for unit in ("tokens", "characters"):
        if unit in details:
            reason += f": {details[unit]:,} {unit}, the model reads {details['context']:,} tokens"
    if "why" in details:
        reason += f": {details['why']}"
    hint = HINTS.get(found.reason, "Mend it, or take the flag away.")
    at_fault = None if details.get("field") == "base prompt" else "prompt"
    problem = Problem(f"{pair.key}: {reason}.", hint, refused=False, field=at_fault)
    return replace(problem, **pair.key._asdict())
