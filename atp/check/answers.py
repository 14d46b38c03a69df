"""The answers of the input: all that is wrong with them, and what a run would make of them.

Windows, contrasts and batches are those of a run, so that the counts are exact; one window is in
memory at a time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from atp.dataset.pairs import BrokenPair, Problem
from atp.shard import WHOLE, Shard

if TYPE_CHECKING:
    from atp.attribution.contrasts import Contrast
    from atp.dataset.pairs import Pair
    from atp.model.contrast import Contraster, NotContrasted

MOST_KEPT = 10_000
"""Problems that are kept: memory must not grow with what is wrong with a file."""

HINTS = {
    "Sequence too long": "Shorten the prompt, or use a model with a longer context.",
    "Empty prompt": "Write the prompt, or take the flag away.",
    "Chat template failed": "Change the prompt, or leave --chat-template out.",
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
        contraster: of the model.
        batch_tokens: the budget of a pass.
        limit: how many pairs the run is to do; all by default.
        problems: is told of the pairs that would end in an error.
    """

    contraster: Contraster
    batch_tokens: int
    limit: int | None
    problems: Problems
    window_pairs: int
    """Pairs among which batches are made."""
    shard: Shard = WHOLE
    """Of the pairs, those of other shards are counted as that."""
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
    """Of a single pair."""
    _planned: int = 0
    """Batches, those of other shards included."""
    _window: list[Contrast] = field(default_factory=list)
    _in_window: int = 0

    def use(self, pair: Pair | BrokenPair) -> None:
        """Take the next pair."""
        if self.pairs == self.limit:
            return
        self._read(pair)
        self.pairs += 1
        self._in_window += 1
        if self._in_window == self.window_pairs:
            self.finish()

    def _read(self, pair: Pair | BrokenPair) -> None:
        from atp.model.contrast import NotContrasted  # noqa: PLC0415  (imports torch)

        if isinstance(pair, BrokenPair):
            self._count(self.errors, pair.error)
            return
        found = self.contraster(pair.prompt, pair.target_response, pair.base_response)
        if not isinstance(found, NotContrasted):
            self.scored += 1  # until it is known to be another shard's
            self.prompt_lengths[found.contrast.prompt_length] += 1
            self._window.append(found.contrast)
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
        from atp.attribution.batches import computed_tokens, plan  # noqa: PLC0415  (imports torch)

        window, self._window, self._in_window = self._window, [], 0
        for indices in plan(window, self.batch_tokens):
            batch = [window[i] for i in indices]
            self._planned += 1
            if not self.shard.does(self._planned - 1):
                self.scored -= len(batch)
                self.elsewhere += len(batch)
                continue
            width = max(len(contrast.tokens) for contrast in batch)
            self.batches += 1
            self.computed_tokens += computed_tokens(batch)
            self.gradient_tokens += len(batch) * max(contrast.offset for contrast in batch)
            self.widest_tokens = max(self.widest_tokens, len(batch) * width)
            self.longest_tokens = max(self.longest_tokens, width)

    def fates(self) -> dict[str, Any]:
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
            "context": self.contraster.n_ctx,
            "prompt": {
                "min": lengths[0] if lengths else None,
                "median": _median(self.prompt_lengths),
                "max": lengths[-1] if lengths else None,
            },
            "computed": self.computed_tokens,
            "gradient": self.gradient_tokens,
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


def _failed(pair: Pair, found: NotContrasted) -> Problem:
    """Return the problem of a pair that would end in an error."""
    reason, details = found.reason, found.details
    for unit in ("tokens", "characters"):
        if unit in details:
            reason += f": {details[unit]:,} {unit}, the model reads {details['context']:,} tokens"
    if "why" in details:
        reason += f": {details['why']}"
    hint = HINTS.get(found.reason, "Mend it, or take the flag away.")
    problem = Problem(f"{pair.key}: {reason}.", hint, refused=False, field="prompt")
    return replace(problem, **pair.key._asdict())
