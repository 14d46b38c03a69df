"""The scored pairs of each SAE, out of all results: numbers in columns, questions one at a time.

What is kept grows with the features that pairs list, not with the files.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from atp.dataset.journal import outcome
from atp.dataset.pairs import PairKey
from atp.dataset.result_files import as_written
from atp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from atp.dataset.journal import Analysis
    from atp.dataset.result_files import ResultFile

GROUPINGS = ("template_type", "dataset")
"""Fields by which pairs are grouped: of the variation, and of the question."""

MOST_FEATURES = 1 << 40
"""No SAE has as many: a greater number is none of a feature."""


def _numbers() -> array[float]:
    return array("d")


def _places() -> array[int]:
    return array("q")


@dataclass
class Listed:
    """Which pair lists which feature, and one or two numbers of it: parallel columns."""

    pair: array[int] = field(default_factory=_places)
    """Counted over all pairs of the SAE."""
    feature: array[int] = field(default_factory=_places)
    first: array[float] = field(default_factory=_numbers)
    second: array[float] = field(default_factory=_numbers)

    def add(self, pair: int, rows: Iterable[tuple[int, float, float]]) -> None:
        """Take what a pair lists."""
        for feature, first, second in rows:
            self.pair.append(pair)
            self.feature.append(feature)
            self.first.append(first)
            self.second.append(second)


@dataclass
class ScoredPairs:
    """All scored pairs of one SAE."""

    sae: dict[str, Any]
    """Its description, as the first result has it."""
    specs: list[str] = field(default_factory=list)
    """What results call it."""
    question: array[int] = field(default_factory=_places)
    """Of each pair, counted over all inputs."""
    groups: dict[str, list[str | None]] = field(default_factory=lambda: {g: [] for g in GROUPINGS})
    """Of each pair, by grouping; None where the input says nothing."""
    has_effects: array[int] = field(default_factory=_places)
    """Of each pair, 1 or 0."""
    has_activations: array[int] = field(default_factory=_places)
    scores: Listed = field(default_factory=Listed)
    """Score and effect, not both 0; the effect is 0 where a pair carries none."""
    activations: Listed = field(default_factory=Listed)
    """On the flagged and on the base prompt."""

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.question)

    def add(self, analysis: Analysis, question: int, groups: dict[str, str | None]) -> None:
        """Take the next pair.

        Raises:
            ValueError: or KeyError, TypeError, AttributeError: it is not as atp writes it.
        """
        pair = len(self)
        top = analysis["top_features"]
        exact = "exact" in analysis["diagnostics"] or any("effect" in each for each in top)
        listed = [
            (_id(each["id"]), _finite(each["score"]), _finite(each.get("effect", 0.0)))
            for each in top
        ]
        prompts = analysis.get("prompt_activations")
        active = [] if prompts is None else _activations(prompts)
        for rows in (listed, active):
            if len({feature for feature, _, _ in rows}) < len(rows):
                msg = "a feature is listed twice"
                raise ValueError(msg)
        self.scores.add(pair, (row for row in listed if row[1] or row[2]))
        self.activations.add(pair, active)
        self.question.append(question)
        self.has_effects.append(exact)
        self.has_activations.append(prompts is not None)
        for name, value in groups.items():
            self.groups[name].append(value)


def _activations(prompts: dict[str, Any]) -> list[tuple[int, float, float]]:
    columns = (
        map(_id, prompts["ids"]),
        map(_finite, prompts["flagged"]),
        map(_finite, prompts["base"]),
    )
    return list(zip(*columns, strict=True))


def _id(text: Any) -> int:  # noqa: ANN401  (any JSON value)
    number = int(text)
    if str(number) != text or not 0 <= number < MOST_FEATURES:
        raise ValueError
    return number


def _finite(value: Any) -> float:  # noqa: ANN401  (any JSON value)
    number = float(value)
    if isinstance(value, (str, bool)) or not math.isfinite(number):
        raise ValueError
    return number


def read_pairs(results: Sequence[ResultFile]) -> list[ScoredPairs]:
    """Read the scored pairs of all results, and put them together by SAE.

    A pair that is in two results of an SAE is taken once.

    Raises:
        InputError: a result is not as it says, a pair has two different analyses, or an SAE has no
            scored pair.
    """
    by_sae: dict[tuple[str, str], ScoredPairs] = {}
    seen: dict[tuple[object, ...], tuple[bytes, Path]] = {}
    numbers: dict[tuple[str, int], int] = {}
    for result in results:
        pairs = by_sae.setdefault(result.sae, ScoredPairs(result.metadata["sae"]))
        pairs.specs.append(str(result.metadata["sae"].get("spec")))
        for key, analysis, groups in _scored_in(result):
            digest = _digest(analysis, result.path, key)
            place = (result.sae, result.input_sha256, key)
            first = seen.setdefault(place, (digest, result.path))
            if first[0] != digest:
                msg = f"{key} has different results in {first[1]} and {result.path}."
                raise InputError(msg, "They are of the same input and SAE: name one of them.")
            if first[1] == result.path:
                of_input = (result.input_sha256, key.question)
                number = numbers.setdefault(of_input, len(numbers))
                try:
                    pairs.add(analysis, number, groups)
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    raise _not_as_written(result.path, key) from error
    for sae, pairs in by_sae.items():
        if not len(pairs):
            path = next(result.path for result in results if result.sae == sae)
            msg = f"{path} holds no scored pair."
            raise InputError(msg, "Each is skipped or has an error; the file says why.")
    return list(by_sae.values())


def _scored_in(result: ResultFile) -> Iterator[tuple[PairKey, Analysis, dict[str, str | None]]]:
    """Yield the scored pairs of a result: place, analysis, groups."""
    count = 0
    for index, question in enumerate(result.questions()):
        for number, variation in enumerate(question["variations"]):
            if "atp_analysis" not in variation:
                continue
            key = PairKey(index, number)
            try:
                analysis: Analysis = as_written(variation["atp_analysis"])
                kind = outcome(analysis)
            except (TypeError, ValueError) as error:
                raise _not_as_written(result.path, key) from error
            if kind == "scored":
                count += 1
                sources = zip(GROUPINGS, (variation, question), strict=True)
                yield key, analysis, {name: _name(source.get(name)) for name, source in sources}
    told = result.metadata["counts"]["scored"]
    if count != told:
        msg = f"{result.path} holds {count:,} scored pairs and says that it has {told:,}."
        raise InputError(msg, "It was changed: run it again with --fresh.")


def _digest(analysis: Analysis, path: Path, key: PairKey) -> bytes:
    try:
        return hashlib.sha256(orjson.dumps(analysis)).digest()
    except TypeError as error:  # an integer that no result holds
        raise _not_as_written(path, key) from error


def _name(value: Any) -> str | None:  # noqa: ANN401  (any JSON value)
    """Return what a group is called after the value of a field."""
    return value if value is None or isinstance(value, str) else str(as_written(value))


def _not_as_written(path: Path, key: PairKey) -> InputError:
    msg = f"{path}: the atp_analysis of {key} is not as atp writes it."
    return InputError(msg, "Run it again with --fresh.")
