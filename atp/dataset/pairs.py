"""Which answers form a pair.

A question holds variations: the same text under several prompt templates. One is the base
(neutral) variation; every other one that a judge flagged as sycophantic forms a pair with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from atp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE_TEMPLATES = {"base", "(base)", ""}
FLAGGED, NOT_FLAGGED = {"1", "true", "1.0"}, {"0", "false", "0.0", "", "none", "null"}


class PairKey(NamedTuple):
    """The place of a flagged variation: question_id repeats in real files, places do not."""

    question: int
    """Index in `results`."""
    variation: int
    """Index in `variations`."""

    def __str__(self) -> str:
        """Return the place as a path into the input."""
        return f"results[{self.question}].variations[{self.variation}]"


@dataclass(frozen=True)
class Pair:
    """A flagged answer and the base answer to the same question, both after the same prompt."""

    key: PairKey
    prompt: str
    target_response: str
    """The flagged (sycophantic) answer."""
    base_response: str
    """The base (neutral) answer."""


@dataclass(frozen=True)
class BrokenPair:
    """A flagged answer that cannot be paired, and why."""

    key: PairKey
    error: str
    details: dict[str, Any]


def is_base(variation: dict[str, Any]) -> bool:
    """Say whether a variation is a neutral one: template_type "base", "(base)", "" or missing."""
    template = variation.get("template_type")
    return template is None or (
        isinstance(template, str) and template.strip().lower() in BASE_TEMPLATES
    )


def is_flagged(variation: dict[str, Any], place: str) -> bool:
    """Say whether the judge flagged a variation: 1, true or "1".

    0, false, "0", "", null and missing mean that it did not.

    Raises:
        InputError: the flag is none of these.
    """
    flag = variation.get("sycophancy_flag")
    if flag is None or isinstance(flag, (bool, int, Decimal, str)):
        spelled = str(flag).strip().lower()
        if spelled in FLAGGED:
            return True
        if spelled in NOT_FLAGGED:
            return False
    msg = f"{place}.sycophancy_flag is {str(flag)[:40]!r}."
    raise InputError(msg, "Write 1 or true for a sycophantic answer, 0 or false for another.")


def variations_of(question: Any, index: int) -> list[dict[str, Any]]:  # noqa: ANN401  (user's JSON)
    """Return the variations of one element of `results`.

    Raises:
        InputError: the element is not a question; names its place.
    """
    place = f"results[{index}]"
    if not isinstance(question, dict):
        msg = f"{place} is not an object."
        raise InputError(msg, "Each element of results must be a question with its variations.")
    variations = question.get("variations")
    if not isinstance(variations, list):
        msg = f"{place}.variations is {'missing' if variations is None else 'not a list'}."
        raise InputError(msg, "Each question needs a list of variations.")
    for number, variation in enumerate(variations):
        if not isinstance(variation, dict):
            msg = f"{place}.variations[{number}] is not an object."
            raise InputError(msg, "Each variation must hold template_type, prompt and response.")
    return variations


def pairs_of(question: Any, index: int) -> Iterator[Pair | BrokenPair]:  # noqa: ANN401
    """Yield a pair for each flagged variation of a question but the base one itself.

    Args:
        question: an element of `results`.
        index: its place there.

    Raises:
        InputError: the element is not a question, or a flag cannot be read.
    """
    variations = variations_of(question, index)
    base_index = next((i for i, variation in enumerate(variations) if is_base(variation)), None)
    for number, variation in enumerate(variations):
        key = PairKey(index, number)
        if not is_flagged(variation, str(key)) or number == base_index:
            continue
        if base_index is None:
            hint = 'no variation has template_type "base", "(base)" or ""'
            yield BrokenPair(key, "No base variation", {"question": index, "reason": hint})
            continue
        fields = {
            "prompt": (key, variation.get("prompt")),
            "response": (key, variation.get("response")),
            "base response": (PairKey(index, base_index), variations[base_index].get("response")),
        }
        faults = {
            name: (place, "missing" if value is None else "not text")
            for name, (place, value) in fields.items()
            if not isinstance(value, str)
        }
        if faults:
            name, (place, fault) = next(iter(faults.items()))
            field = name.removeprefix("base ")
            yield BrokenPair(key, f"{name.capitalize()} {fault}", {"field": f"{place}.{field}"})
        else:
            prompt, target, base = (str(value) for _, value in fields.values())
            yield Pair(key, prompt, target, base)
