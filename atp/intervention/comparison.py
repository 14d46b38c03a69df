"""Flags of the same prompts before and after: what changed, and how sure that is.

    McNemar's exact test: do as many flags go as come? Binomial, two-sided.
    Rate after - rate before, with Newcombe's interval for paired proportions (1998, method 10,
    https://doi.org/10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C).

Both take prompts as independent. Those of one question are not quite: the interval "clustered"
draws whole questions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import binomtest

from atp.dataset.pairs import PairKey, is_base, is_flagged
from atp.dataset.reader import questions
from atp.errors import InputError
from atp.intervention.intervals import Bootstrap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Z = 1.959963984540054
"""Of a two-sided 95 % interval."""
BASE = "base"
SEED = 0


@dataclass
class Flags:
    """The flags of some prompts."""

    before: list[bool] = field(default_factory=list)
    after: list[bool] = field(default_factory=list)
    questions: list[int] = field(default_factory=list)
    """Which question each belongs to."""

    def add(self, question: int, *, before: bool, after: bool) -> None:
        """Take one prompt."""
        self.before.append(before)
        self.after.append(after)
        self.questions.append(question)

    def described(self) -> dict[str, Any]:
        """Return the table of these flags and what follows from it."""
        both = sum(b and a for b, a in zip(self.before, self.after, strict=True))
        only_before = sum(self.before) - both
        only_after = sum(self.after) - both
        n = len(self.before)
        changes = np.array(self.after, dtype=np.float64) - np.array(self.before, dtype=np.float64)
        bootstrap = Bootstrap(np.array(self.questions, dtype=np.int64), SEED)
        return {
            "prompts": n,
            "flagged_in_both": both,
            "flagged_before_only": only_before,
            "flagged_after_only": only_after,
            "flagged_in_neither": n - both - only_before - only_after,
            "rate_before": sum(self.before) / n,
            "rate_after": sum(self.after) / n,
            "difference": float(changes.mean()),
            "interval": newcombe(both, only_before, only_after, n),
            "interval_clustered": bootstrap.interval(changes[None]),
            "mcnemar_p": mcnemar(only_before, only_after),
        }


def mcnemar(only_before: int, only_after: int) -> float:
    """Return the two-sided p of McNemar's exact test; 1 where nothing changed."""
    changed = only_before + only_after
    return float(binomtest(only_before, changed, 0.5).pvalue) if changed else 1.0


def newcombe(both: int, only_before: int, only_after: int, n: int) -> list[float]:
    """Return the 95 % interval of the rate after minus the rate before."""
    neither = n - both - only_before - only_after
    before, after = (both + only_before) / n, (both + only_after) / n
    (low1, high1), (low2, high2) = wilson(after, n), wilson(before, n)
    margins = n * after * (n - n * after) * n * before * (n - n * before)
    numerator: float = both * neither - only_before * only_after
    if numerator > 0:
        numerator = max(0.0, numerator - n / 2)
    phi = numerator / math.sqrt(margins) if margins > 0 else 0.0

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2))

    difference = after - before
    return [
        difference - reach(after - low1, high2 - before),
        difference + reach(before - low2, high1 - after),
    ]


def wilson(rate: float, n: int) -> tuple[float, float]:
    """Return Wilson's interval of a rate."""
    middle = rate + Z**2 / (2 * n)
    half = Z * math.sqrt(rate * (1 - rate) / n + Z**2 / (4 * n**2))
    scale = 1 + Z**2 / n
    return (middle - half) / scale, (middle + half) / scale


def compare(before: Path, after: Path) -> dict[str, Any]:
    """Compare two labelled files of the same questions.

    Returns:
        `overall`, of all variations but the base ones, and `by_template_type`, these included.

    Raises:
        InputError: a file cannot be read, the two are not of the same prompts, or an answer is not
            labelled.
    """
    overall, by_template = Flags(), dict[str, Flags]()
    for key, base, template, flags in _both(before, after):
        one, other = flags
        by_template.setdefault(template, Flags()).add(key.question, before=one, after=other)
        if not base:
            overall.add(key.question, before=one, after=other)
    if not overall.before:
        msg = f"{before} and {after} hold no labelled answer but to base prompts."
        raise InputError(msg, "Let the judge label the answers to the other prompts.")
    return {
        "overall": overall.described(),
        "by_template_type": {name: flags.described() for name, flags in by_template.items()},
    }


def _both(before: Path, after: Path) -> Iterator[tuple[PairKey, bool, str, tuple[bool, bool]]]:
    """Yield place, whether it is the base one, template type and flags of each variation."""
    for index, (one, other) in enumerate(zip_longest(questions(before), questions(after))):
        sides = [
            _variations(path, question, index, other=against)
            for path, question, against in ((before, one, after), (after, other, before))
        ]
        if len(sides[0]) != len(sides[1]):
            raise _differ(before, after, f"results[{index}].variations")
        for number, (was, now) in enumerate(zip(*sides, strict=True)):
            key = PairKey(index, number)
            for name in ("template_type", "prompt"):
                if was.get(name) != now.get(name):
                    raise _differ(before, after, f"{key}.{name}")
            base = is_base(was)
            labels = [
                (path, side.get("sycophancy_flag")) for path, side in ((before, was), (after, now))
            ]
            unlabelled = next((path for path, flag in labels if flag in (None, "")), None)
            if unlabelled is not None:
                if base:
                    continue  # a judge compares with the base answer: many label only the others
                msg = f"{unlabelled}: {key} has no sycophancy_flag."
                raise InputError(msg, "Let the judge label the file; every answer needs a flag.")
            flags = (_flag(before, was, key), _flag(after, now, key))
            yield key, base, BASE if base else str(was.get("template_type")), flags


def _variations(path: Path, question: Any, index: int, *, other: Path) -> list[dict[str, Any]]:  # noqa: ANN401
    """Return the variations of a question; None stands for one that a file has no more."""
    if question is None:
        msg = f"{path} holds {index} questions, {other} holds more."
        raise InputError(msg, "Compare the two files of one intervention.")
    variations = question.get("variations") if isinstance(question, dict) else None
    if not isinstance(variations, list) or not all(isinstance(each, dict) for each in variations):
        msg = f"{path}: results[{index}] is not a question with its variations."
        raise InputError(msg, "Compare the two files of one intervention.")
    return variations


def _flag(path: Path, variation: dict[str, Any], key: PairKey) -> bool:
    try:
        return is_flagged(variation, str(key))
    except InputError as error:
        msg = f"{path}: {error.message}"
        raise InputError(msg, error.hint) from error


def _differ(before: Path, after: Path, place: str) -> InputError:
    msg = f"{before} and {after} differ at {place}: they are not answers to the same prompts."
    return InputError(msg, "Compare the two files of one intervention.")
