"""The scored pairs of each SAE, from all results: numbers in columns.

Results are streamed; memory grows with the features that pairs list, not with the files.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from atp.dataset.journal import outcome
from atp.dataset.pairs import PairKey
from atp.dataset.result_files import NOT_AS_WRITTEN, as_written
from atp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from atp.dataset.journal import Analysis
    from atp.dataset.result_files import ResultFile

    Listed = dict[str, array[Any]]
    """A row for each pair and each feature that it lists: both, and their numbers, in columns."""

GROUPINGS = ("template_type", "dataset")  # fields of the variation, and of the question
MAX_FEATURES = 1 << 40  # no SAE has as many; a greater number is not a feature's


def _integers() -> array[int]:
    return array("q")


def _listed(*numbers: str) -> Listed:
    return {"pair": _integers(), "feature": _integers(), **{name: array("d") for name in numbers}}


@dataclass
class ScoredPairs:
    """All scored pairs of one SAE."""

    sae: dict[str, Any]  # its description in the first result
    specs: list[str] = field(default_factory=list)  # its name in each result
    question: array[int] = field(default_factory=_integers)  # of each pair, over all inputs
    groups: dict[str, list[str | None]] = field(default_factory=lambda: {g: [] for g in GROUPINGS})
    """Of each pair, by grouping; None where the input does not say."""
    has_effects: array[int] = field(default_factory=_integers)
    """Of each pair, 1 or 0: whether all features that it lists have an effect."""
    has_activations: array[int] = field(default_factory=_integers)
    scores: Listed = field(default_factory=lambda: _listed("score", "effect", "best"))
    """Not all 0; the effect is 0 where it was not measured, and the best is then the score."""
    activations: Listed = field(default_factory=lambda: _listed("flagged", "base"))
    """At the last token of the flagged and of the base prompt."""

    def __len__(self) -> int:
        return len(self.question)

    def add(self, analysis: Analysis, question: int, groups: dict[str, str | None]) -> None:
        """Add the next pair; raise one of NOT_AS_WRITTEN where it is not as atp writes it."""
        pair = len(self)
        top = analysis["top_features"]
        exact = "exact" in analysis["diagnostics"] and all("effect" in entry for entry in top)
        scores = [
            (
                _id(entry["id"]),
                _finite(entry["score"]),
                _finite(entry.get("effect", 0.0)),
                _finite(entry.get("effect", entry["score"])),
            )
            for entry in top
        ]
        prompts = analysis.get("prompt_activations")
        activations = []
        if prompts is not None:
            numbers = (map(_finite, prompts[side]) for side in ("flagged", "base"))
            activations = list(zip(map(_id, prompts["ids"]), *numbers, strict=True))
        nonzero = [row for row in scores if row[1] or row[2]]
        for rows in (scores, activations):
            if len({feature for feature, *_ in rows}) < len(rows):
                msg = "a feature is listed twice"
                raise ValueError(msg)
        for listed, rows in ((self.scores, nonzero), (self.activations, activations)):
            for row in rows:
                for column, number in zip(listed.values(), (pair, *row), strict=True):
                    column.append(number)
        self.question.append(question)
        self.has_effects.append(exact)
        self.has_activations.append(prompts is not None)
        for name, value in groups.items():
            self.groups[name].append(value)

    def only(self, features: np.ndarray) -> ScoredPairs:
        """Return the same pairs with some of the features."""

        def rows(listed: Listed) -> Listed:
            kept = np.isin(np.asarray(listed["feature"]), features)
            return {
                name: array(column.typecode, np.asarray(column)[kept].tobytes())
                for name, column in listed.items()
            }

        return replace(self, scores=rows(self.scores), activations=rows(self.activations))


def _id(text: Any) -> int:  # noqa: ANN401  (any JSON value)
    number = int(text)
    if str(number) != text or not 0 <= number < MAX_FEATURES:
        raise ValueError
    return number


def _finite(value: Any) -> float:  # noqa: ANN401  (any JSON value)
    number = float(value)
    if isinstance(value, (str, bool)) or not math.isfinite(number):
        raise ValueError
    return number


def read_pairs(results: Sequence[ResultFile]) -> list[ScoredPairs]:
    """Read the scored pairs of all results, by SAE; a pair in two results of an SAE counts once."""
    by_sae: dict[tuple[str, str], ScoredPairs] = {}
    first_seen: dict[tuple[object, ...], tuple[bytes, Path]] = {}
    question_numbers: dict[tuple[str, int], int] = {}
    for result in results:
        input_sha256 = result.metadata["input"]["sha256"]
        pairs = by_sae.setdefault(result.sae, ScoredPairs(result.metadata["sae"]))
        pairs.specs.append(str(result.metadata["sae"].get("spec")))
        for key, analysis, groups in scored_in(result):
            place = (result.sae, input_sha256, key)
            with _checked(result.path, key):  # orjson refuses integers beyond 64 bits
                digest = hashlib.sha256(orjson.dumps(analysis)).digest()
            first_digest, first_path = first_seen.setdefault(place, (digest, result.path))
            if first_digest != digest:
                msg = f"{key} has different results in {first_path} and {result.path}."
                raise InputError(msg, "They are of the same input and SAE: name one of them.")
            if first_path == result.path:
                question = (input_sha256, key.question)
                number = question_numbers.setdefault(question, len(question_numbers))
                with _checked(result.path, key):
                    pairs.add(analysis, number, groups)
    for sae, pairs in by_sae.items():
        if not len(pairs):
            path = next(result.path for result in results if result.sae == sae)
            msg = f"{path} holds no scored pair."
            raise InputError(msg, "Each pair is skipped or has an error; the file says why.")
    return list(by_sae.values())


def scored_in(result: ResultFile) -> Iterator[tuple[PairKey, Analysis, dict[str, str | None]]]:
    """Yield place, analysis and groups of each scored pair of a result."""
    count = 0
    for index, question in enumerate(result.questions()):
        for number, variation in enumerate(question["variations"]):
            if "atp_analysis" not in variation:
                continue
            key = PairKey(index, number)
            with _checked(result.path, key):
                analysis: Analysis = as_written(variation["atp_analysis"])
                scored = outcome(analysis) == "scored"
            if scored:
                count += 1
                sources = zip(GROUPINGS, (variation, question), strict=True)
                yield key, analysis, {name: _text(source.get(name)) for name, source in sources}
    stated = result.metadata["counts"]["scored"]
    if count != stated:
        msg = f"{result.path} holds {count:,} scored pairs and says that it has {stated:,}."
        raise InputError(msg, "It was changed: run it again with --fresh.")


def _text(value: Any) -> str | None:  # noqa: ANN401  (any JSON value)
    return value if value is None or isinstance(value, str) else str(as_written(value))


@contextmanager
def _checked(path: Path, key: PairKey) -> Iterator[None]:
    """Name the pair whose analysis is not as atp writes it."""
    try:
        yield
    except NOT_AS_WRITTEN as error:
        msg = f"{path}: the atp_analysis of {key} is not as atp writes it."
        raise InputError(msg, "Run it again with --fresh.") from error
