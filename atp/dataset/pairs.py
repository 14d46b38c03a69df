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
    base_prompt: str | None = None
    """The base variation's own prompt; None where it has no text."""


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with the input, and where it stands."""

    message: str
    hint: str
    refused: bool
    """True: a run refuses the file for it. False: a run goes on, with an error on some pairs."""
    question: int | None = None
    """Index in `results`; None for a fault of the file."""
    variation: int | None = None
    """Index in `variations`; None for a fault of the question."""
    field: str | None = None
    """The field at fault, where it is a single one."""
    line: int | None = None
    """Of JSON Lines, counted from 1."""

    @property
    def place(self) -> str:
        """The place as a path into the input; empty for the file itself."""
        steps = [
            "" if self.question is None else f"results[{self.question}]",
            "" if self.variation is None else f"variations[{self.variation}]",
            self.field or "",
        ]
        return ".".join(filter(None, steps))

    def error(self) -> InputError:
        """Return what refuses the file for it."""
        return InputError(self.message, self.hint)


@dataclass(frozen=True)
class BrokenPair:
    """A flagged answer that cannot be paired, and why."""

    key: PairKey
    error: str
    details: dict[str, Any]
    problems: tuple[Problem, ...] = ()
    """All that is wrong with it; `error` names the first."""


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


def pairs_of(question: Any, index: int) -> Iterator[Pair | BrokenPair]:  # noqa: ANN401  (user's JSON)
    """Yield a pair for each flagged variation of a question but the base one itself.

    Args:
        question: an element of `results`.
        index: its place there.

    Raises:
        InputError: the element is not a question, or a flag cannot be read.
    """
    for found in outcomes_of(question, index):
        if isinstance(found, Problem):
            raise found.error()
        yield found


def outcomes_of(question: Any, index: int) -> Iterator[Pair | BrokenPair | Problem]:  # noqa: ANN401
    """Yield what `pairs_of` does, and each problem for which it refuses a question.

    What can be paired is, in spite of the problems beside it.
    """
    variations = []
    for number, variation in _numbered_variations(question, index):
        if isinstance(variation, Problem):
            yield variation
        else:
            variations.append((number, variation))
    base = next(((i, variation) for i, variation in variations if is_base(variation)), None)
    for number, variation in variations:
        key = PairKey(index, number)
        try:
            flagged = is_flagged(variation, str(key))
        except InputError as error:
            place = {**key._asdict(), "field": "sycophancy_flag"}
            yield Problem(error.message, error.hint, refused=True, **place)
            continue
        if not flagged or (base is not None and number == base[0]):
            continue
        if base is None:
            yield _without_base(key)
            continue
        texts = {
            "prompt": (key, variation.get("prompt")),
            "response": (key, variation.get("response")),
            "base response": (PairKey(index, base[0]), base[1].get("response")),
        }
        base_prompt = base[1].get("prompt")
        neutral = base_prompt if isinstance(base_prompt, str) else None
        prompt, response, base_response = (str(text) for _, text in texts.values())
        yield _broken(key, texts) or Pair(key, prompt, response, base_response, neutral)


def _numbered_variations(
    question: Any,  # noqa: ANN401
    index: int,
) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
    """Yield the variations of one element of `results`, or what is wrong with each."""
    place = f"results[{index}]"
    if not isinstance(question, dict):
        hint = "Each element of results must be a question with its variations."
        yield -1, Problem(f"{place} is not an object.", hint, refused=True, question=index)
        return
    variations = question.get("variations")
    if not isinstance(variations, list):
        msg = f"{place}.variations is {'missing' if variations is None else 'not a list'}."
        hint = "Each question needs a list of variations."
        yield -1, Problem(msg, hint, refused=True, question=index, field="variations")
        return
    for number, variation in enumerate(variations):
        if isinstance(variation, dict):
            yield number, variation
            continue
        msg = f"{place}.variations[{number}] is not an object."
        hint = "Each variation must hold template_type, prompt and response."
        yield number, Problem(msg, hint, refused=True, question=index, variation=number)


def _without_base(key: PairKey) -> BrokenPair:
    """Return a pair of a question in which no variation is the base."""
    hint = 'no variation has template_type "base", "(base)" or ""'
    problem = Problem(
        f"results[{key.question}] has flagged answers and no base variation.",
        'Give the neutral variation the template_type "base".',
        refused=False,
        question=key.question,
        field="variations",
    )
    details = {"question": key.question, "reason": hint}
    return BrokenPair(key, "No base variation", details, (problem,))


def _broken(key: PairKey, texts: dict[str, tuple[PairKey, Any]]) -> BrokenPair | None:
    """Return the pair as a broken one where one of its texts is none."""
    faults = {
        name: (place, "missing" if text is None else "not text")
        for name, (place, text) in texts.items()
        if not isinstance(text, str)
    }
    if not faults:
        return None
    problems = []
    for name, (place, fault) in faults.items():
        field = name.removeprefix("base ")
        msg = f"{place}.{field} is {fault}."
        hint = "Write the text there." if name == field else "Its pairs need the base answer."
        problems.append(Problem(msg, hint, refused=False, field=field, **place._asdict()))
    name, (_, fault) = next(iter(faults.items()))
    details = {"field": problems[0].place}
    return BrokenPair(key, f"{name.capitalize()} {fault}", details, tuple(problems))
