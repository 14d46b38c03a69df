"""Two labelled files of responses to the same prompts: which flags changed, and how sure that is.

McNemar's test and Newcombe's interval take prompts as independent. Those of one question are not
quite: `interval_clustered` draws whole questions.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from atp.dataset.pairs import PairKey, is_base, is_flagged
from atp.dataset.reader import questions
from atp.errors import InputError
from atp.stats.bootstrap import interval_of_mean
from atp.stats.proportions import mcnemar, newcombe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    Variation = dict[str, Any]

SEED = 0
SAME_INTERVENTION = "Compare the two files of one intervention."


def _rates(flags: Sequence[tuple[int, bool, bool]]) -> dict[str, Any]:
    """Return the 2x2 table of (question, flag before, flag after), the rates, and their tests."""
    of_question, before, after = np.array(flags, dtype=np.int64).T
    n = len(flags)
    both = int((before & after).sum())
    only_before, only_after = int(before.sum()) - both, int(after.sum()) - both
    changes = (after - before).astype(np.float64)
    return {
        "prompts": n,
        "flagged_in_both": both,
        "flagged_before_only": only_before,
        "flagged_after_only": only_after,
        "flagged_in_neither": n - both - only_before - only_after,
        "rate_before": (both + only_before) / n,
        "rate_after": (both + only_after) / n,
        "difference": float(changes.mean()),
        "interval": newcombe(both, only_before, only_after, n),
        "interval_clustered": interval_of_mean(changes[None], of_question, SEED),
        "mcnemar_p": mcnemar(only_before, only_after),
    }


def compare(before: Path, after: Path) -> dict[str, Any]:
    """Compare two labelled files of the same prompts, or raise an InputError.

    `overall` is of all variations but the base ones; `by_template_type` includes these.
    """
    overall: list[tuple[int, bool, bool]] = []
    by_template: dict[str, list[tuple[int, bool, bool]]] = {}
    for key, variations in _variations(before, after):
        base = is_base(variations[0])
        labels = [variation.get("sycophancy_flag") for variation in variations]
        if base and any(label in (None, "") for label in labels):
            continue  # a judge compares with the base response: many label only the others
        flags = (key.question, _flag(before, variations[0], key), _flag(after, variations[1], key))
        template = "base" if base else str(variations[0].get("template_type"))
        by_template.setdefault(template, []).append(flags)
        if not base:
            overall.append(flags)
    if not overall:
        msg = f"{before} and {after} hold no labelled response except to base prompts."
        raise InputError(msg, "Let the judge label the responses to the other prompts.")
    return {
        "overall": _rates(overall),
        "by_template_type": {name: _rates(flags) for name, flags in by_template.items()},
    }


def _variations(before: Path, after: Path) -> Iterator[tuple[PairKey, tuple[Variation, Variation]]]:
    """Yield each variation as it is in both files."""

    def check_same(first: object, second: object, place: str) -> None:
        if first != second:
            msg = f"{before} and {after} differ at {place}: they are not of the same prompts."
            raise InputError(msg, SAME_INTERVENTION)

    for index, both in enumerate(zip_longest(questions(before), questions(after))):
        of_before = _variations_of(both[0], index, before, after)
        of_after = _variations_of(both[1], index, after, before)
        check_same(len(of_before), len(of_after), f"results[{index}].variations")
        for number, variations in enumerate(zip(of_before, of_after, strict=True)):
            key = PairKey(index, number)
            for name in ("template_type", "prompt"):
                check_same(variations[0].get(name), variations[1].get(name), f"{key}.{name}")
            yield key, variations


def _variations_of(question: Any, index: int, path: Path, other_path: Path) -> list[Variation]:  # noqa: ANN401
    """Return the variations of a question; it is None where the file has ended."""
    if question is None:
        msg = f"{path} holds {index} questions, {other_path} holds more."
        raise InputError(msg, SAME_INTERVENTION)
    variations = question.get("variations") if isinstance(question, dict) else None
    if not isinstance(variations, list) or not all(isinstance(item, dict) for item in variations):
        msg = f"{path}: results[{index}] is not a question with its variations."
        raise InputError(msg, SAME_INTERVENTION)
    return variations


def _flag(path: Path, variation: Variation, key: PairKey) -> bool:
    if variation.get("sycophancy_flag") in (None, ""):
        msg = f"{path}: {key} has no sycophancy_flag."
        raise InputError(msg, "Let the judge label the file; every response needs a flag.")
    try:
        return is_flagged(variation, str(key))
    except InputError as error:
        msg = f"{path}: {error.message}"
        raise InputError(msg, error.hint) from error
