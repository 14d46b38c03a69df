"""Which responses form a pair.

A question holds variations: the same text under several prompt templates. One is the base
(neutral) variation; every other one that a judge flagged as sycophantic forms a pair with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from atp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

BASE_TEMPLATES = {"base", "(base)", ""}
FLAGGED, NOT_FLAGGED = {"1", "true", "1.0"}, {"0", "false", "0.0", "", "none", "null"}


class PairKey(NamedTuple):
    """The place of a flagged variation: real files repeat a question_id, but a place is unique."""

    question: int  # index in `results`
    variation: int  # index in `variations`

    def __str__(self) -> str:
        return f"results[{self.question}].variations[{self.variation}]"


@dataclass(frozen=True)
class Pair:
    """A flagged response and the base response to the same question, both after one prompt."""

    key: PairKey
    prompt: str
    target_response: str  # the flagged (sycophantic) one
    base_response: str  # the neutral one
    base_prompt: str | None = None  # the base variation's own; None where it has no text


@dataclass(frozen=True)
class Problem:
    """A fault of the input, and its place."""

    message: str
    hint: str
    refused: bool = True  # a run refuses the file; else it continues, with an error on some pairs
    question: int | None = None  # None for a fault of the file
    variation: int | None = None  # None for a fault of the question
    field: str | None = None  # the field at fault, where it is a single one
    line: int | None = None  # of JSON Lines, counted from 1

    @property
    def place(self) -> str:
        """The place as a path into the input; empty for the file itself."""
        indices = {"results": self.question, "variations": self.variation}
        steps = [f"{name}[{index}]" for name, index in indices.items() if index is not None]
        return ".".join(steps + ([self.field] if self.field else []))

    def error(self, path: Path) -> InputError:
        """Return the error by which a run refuses the file."""
        of_file = self.question is None  # its message names the file
        return InputError(self.message if of_file else f"{path}: {self.message}", self.hint)


@dataclass(frozen=True)
class BrokenPair:
    """A flagged response that cannot be paired, and why."""

    key: PairKey
    error: str
    details: dict[str, Any]
    problems: tuple[Problem, ...] = ()  # all its faults; `error` names the first


def is_base(variation: dict[str, Any]) -> bool:
    """Say whether a variation is neutral: its template_type is "base", "(base)", "" or missing."""
    template = variation.get("template_type")
    return template is None or (
        isinstance(template, str) and template.strip().lower() in BASE_TEMPLATES
    )


def is_flagged(variation: dict[str, Any], place: str) -> bool:
    """Say whether the judge flagged a variation: 1, true or "1".

    0, false, "0", "", null and a missing flag mean no; any other flag raises an InputError.
    """
    flag = variation.get("sycophancy_flag")
    if flag is None or isinstance(flag, (bool, int, Decimal, str)):
        spelled = str(flag).strip().lower()
        if spelled in FLAGGED:
            return True
        if spelled in NOT_FLAGGED:
            return False
    msg = f"{place}.sycophancy_flag is {str(flag)[:40]!r}."
    raise InputError(msg, "Write 1 or true for a sycophantic response, 0 or false for another.")


def pairs_of(path: Path, question: Any, index: int) -> Iterator[Pair | BrokenPair]:  # noqa: ANN401  (user's JSON)
    """Yield the pairs of a question, `results[index]`, or raise an InputError that names `path`."""
    for outcome in pairs_and_problems(question, index):
        if isinstance(outcome, Problem):
            raise outcome.error(path)
        yield outcome


def pairs_and_problems(question: Any, index: int) -> Iterator[Pair | BrokenPair | Problem]:  # noqa: ANN401
    """Yield a pair for each flagged variation except the base, and what a run refuses."""
    variations = yield from _variations(question, index)
    base = next((PairKey(index, i) for i, other in variations.items() if is_base(other)), None)
    for number, variation in variations.items():
        key = PairKey(index, number)
        try:
            flagged = is_flagged(variation, str(key))
        except InputError as error:
            yield Problem(error.message, error.hint, field="sycophancy_flag", **key._asdict())
            continue
        if not flagged or key == base:
            continue
        if base is None:
            msg = f"results[{index}] has flagged responses and no base variation."
            hint = 'Give the neutral variation the template_type "base".'
            problem = Problem(msg, hint, refused=False, question=index, field="variations")
            reason = 'no variation has template_type "base", "(base)" or ""'
            details = {"question": index, "reason": reason}
            yield BrokenPair(key, "No base variation", details, (problem,))
        else:
            yield _pair(key, variation, base, variations[base.variation])


def _variations(
    question: Any,  # noqa: ANN401  (user's JSON)
    index: int,
) -> Generator[Problem, None, dict[int, dict[str, Any]]]:
    """Yield the faults in the shape of a question; return its variations by their index."""
    place = f"results[{index}]"
    if not isinstance(question, dict):
        hint = "Each element of results must be a question with its variations."
        yield Problem(f"{place} is not an object.", hint, question=index)
        return {}
    variations = question.get("variations")
    if not isinstance(variations, list):
        msg = f"{place}.variations is {'missing' if variations is None else 'not a list'}."
        hint = "Each question needs a list of variations."
        yield Problem(msg, hint, question=index, field="variations")
        return {}
    for number, variation in enumerate(variations):
        if not isinstance(variation, dict):
            msg = f"{place}.variations[{number}] is not an object."
            hint = "Each variation must hold template_type, prompt and response."
            yield Problem(msg, hint, question=index, variation=number)
    return {i: variation for i, variation in enumerate(variations) if isinstance(variation, dict)}


def _pair(
    key: PairKey, variation: dict[str, Any], base_key: PairKey, base: dict[str, Any]
) -> Pair | BrokenPair:
    problems, errors = [], []
    for name, place, text in (
        ("prompt", key, variation.get("prompt")),
        ("response", key, variation.get("response")),
        ("base response", base_key, base.get("response")),
    ):
        if isinstance(text, str):
            continue
        fault = "missing" if text is None else "not text"
        errors.append(f"{name.capitalize()} {fault}")
        field = name.removeprefix("base ")
        msg = f"{place}.{field} is {fault}."
        hint = "Write the text there." if name == field else "Its pairs need the base response."
        problems.append(Problem(msg, hint, refused=False, field=field, **place._asdict()))
    if problems:
        return BrokenPair(key, errors[0], {"field": problems[0].place}, tuple(problems))
    base_prompt = base["prompt"] if isinstance(base.get("prompt"), str) else None
    return Pair(key, variation["prompt"], variation["response"], base["response"], base_prompt)
