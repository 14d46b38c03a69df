"""The work is counted window by window, as a run does it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from atp.attribution.batches import computed_tokens, plan
from atp.attribution.contrasts import Contrast
from atp.check.findings import InputProblems
from atp.check.run_work import RunWork
from atp.config.settings import Settings
from atp.config.shard import WHOLE, Shard
from atp.dataset.pairs import BrokenPair, Pair, PairKey
from atp.model.pair_tokenizer import PairIssue, TokenizedPair


def pair(number: int) -> Pair:
    """Return a pair whose prompt says its number."""
    return Pair(PairKey(number, 1), str(number), "yes", "no")


def contrast(number: int) -> Contrast:
    """Return a contrast of its own length for each number."""
    return Contrast(tuple(range(number, 2 * number + 5)), number + 3, 1, 2)


def pair_tokenizer(prompt: str, target: str, base: str) -> TokenizedPair | PairIssue:
    """Stand in for a PairTokenizer: every 7th pair has no difference, every 11th is too long."""
    number = int(prompt)
    if number % 7 == 0:
        return PairIssue("No difference", failed=False)
    if number % 11 == 0:
        details = {"tokens": 300, "context": 256}
        return PairIssue("Sequence too long", failed=True, details=details)
    return TokenizedPair(contrast(number), "a", "b", "joint")


def counted(
    pairs: list[Pair | BrokenPair],
    limit: int | None = None,
    window: int = 16,
    shard: Shard = WHOLE,
) -> RunWork:
    """Return the work of pairs."""
    stand_in: Any = pair_tokenizer
    settings = Settings(Path(), Path(), limit=limit, shard=shard)
    work = RunWork(stand_in, settings, 200, InputProblems(), window)
    for item in pairs:
        work.add(item)
    work.finish()
    return work


def test_batches_are_those_of_each_window() -> None:
    work = counted([pair(number) for number in range(1, 41)])

    batches = []
    for start in (1, 17, 33):
        window = [contrast(n) for n in range(start, min(start + 16, 41)) if n % 7 and n % 11]
        batches += [[window[i] for i in indices] for indices in plan(window, 200)]
    assert work.batches == len(batches)
    assert work.computed_tokens == sum(map(computed_tokens, batches))
    assert work.longest_pair_tokens == 45
    assert work.gradient_tokens == sum(
        len(batch) * max(item.offset for item in batch) for batch in batches
    )


def test_shards_together_do_the_work_of_a_whole_run() -> None:
    broken = BrokenPair(PairKey(0, 1), "Prompt missing", {})
    pairs = [broken, *(pair(number) for number in range(1, 41))]

    whole, parts = counted(pairs), [counted(pairs, shard=Shard(n, 3)) for n in range(3)]

    for name in ("scored", "batches", "computed_tokens", "gradient_tokens"):
        assert sum(getattr(part, name) for part in parts) == getattr(whole, name)
    assert sum((part.errors for part in parts), Counter()) == whole.errors
    assert sum((part.skips for part in parts), Counter()) == whole.skips
    assert max(part.batches for part in parts) - min(part.batches for part in parts) <= 1
    for part in parts:
        outcome_counts = part.outcome_counts()
        found = sum(outcome_counts[kind] for kind in ("scored", "skipped", "error", "elsewhere"))
        assert found == outcome_counts["total"] == 41


def test_every_pair_has_an_outcome_and_a_limit_ends_them() -> None:
    broken = BrokenPair(PairKey(0, 1), "Prompt missing", {})
    pairs = [broken, *(pair(number) for number in range(1, 13))]

    assert counted(pairs).outcome_counts() == {
        "total": 13,
        "scored": 10,
        "skipped": 1,
        "error": 2,
        "skips": {"No difference": 1},
        "errors": {"Prompt missing": 1, "Sequence too long": 1},
    }
    assert counted(pairs, limit=3).outcome_counts()["total"] == 3


def test_a_pair_that_is_too_long_is_a_problem_with_its_place() -> None:
    (problem,) = counted([pair(11)]).problems.kept

    assert problem.place == "results[11].variations[1].prompt"
    assert "300 tokens, the model reads 256 tokens" in problem.message
    assert problem.hint
    assert not problem.refused


@pytest.mark.parametrize(("numbers", "median"), [([], None), ([1], 4), ([1, 2], 4), ([1, 2, 9], 5)])
def test_prompts_have_a_median_length(numbers: list[int], median: int | None) -> None:
    work = counted([pair(number) for number in numbers])
    work.pair_tokenizer = SimpleNamespace(n_ctx=256)  # type: ignore[assignment]  (has a context)

    assert work.tokens()["prompt"]["median"] == median
