"""The pairs of one result as columns, lists and texts, collected while the result is read."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, Any

import numpy as np

from atp.dataset.journal import outcome
from atp.dataset.pairs import PairKey, is_base
from atp.dataset.result_files import NOT_AS_WRITTEN, as_written
from atp.errors import InputError
from atp.report.packing import TextColumn, json_block

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from atp.dataset.journal import Analysis

CHUNK = 1 << 18  # characters of text that a reader decodes at a time, when a pair is opened
METRICS = ("logit_diff", "log_prob_diff")  # a scored pair has one of them
LISTED = ("score", "activation", "relative_size", "effect", "base_activation")
"""The numbers of a listed feature; the gradient is score over activation."""
PAIR_TEXTS = (
    *("question_id", "template_type", "dataset", "outcome", "reason"),
    *("target_token", "base_token", "boundary"),
)
NONE = np.iinfo(np.uint32).max  # stands for a whole number that a pair does not have


class Chunks:
    """Values of one pair after the other, in blocks that are decoded on their own."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.first: list[int] = []  # the pair at which each block begins
        self._pairs: list[Any] = []
        self._texts: dict[str, int] = {}  # of the present block, each once
        self._size = self._count = 0

    def add(self, value: Any, size: int) -> None:  # noqa: ANN401  (any JSON value)
        """Add the value of the next pair, of about `size` characters."""
        self._pairs.append(value)
        self._count += 1
        self._size += size
        if self._size >= CHUNK:
            self.end()

    def add_texts(self, *texts: str) -> None:
        """Add the texts of the next pair; one that the block has already takes no space."""
        new = sum(len(text) for text in texts if text not in self._texts)
        self.add([self._texts.setdefault(text, len(self._texts)) for text in texts], new)

    def end(self) -> None:
        """Close the present block."""
        if self._pairs:
            self.first.append(self._count - len(self._pairs))
            texts = {"texts": list(self._texts), "pairs": self._pairs}
            self.blocks.append(json_block(texts if self._texts else self._pairs))
        self._pairs, self._texts, self._size = [], {}, 0


class CollectedPairs:
    """The pairs of a result, whatever became of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.question, self.variation, self.token_position = array("I"), array("I"), array("I")
        self.strongest, self.metric = array("I"), array("f")
        self.texts_of = {name: TextColumn() for name in PAIR_TEXTS}
        self.diagnostics: dict[str, array[float]] = {}
        self.start = array("I", [0])  # of each pair's rows in `listed`, and the end
        self.feature = array("I")
        self.listed = {name: array("f") for name in LISTED}
        self.samples: list[tuple[int, int, float, float, float]] = []
        """Pair, feature, score, effect and relative size of features drawn to check the others."""
        self.texts, self.positions = Chunks(), Chunks()
        self.metric_name = METRICS[0]
        self.has_positions = False

    def __len__(self) -> int:
        return len(self.question)

    def watch(self, questions: Iterator[Any]) -> Iterator[Any]:
        """Yield the questions of the result; collect their pairs on the way."""
        for index, question in enumerate(questions):
            self._add_question(index, question)
            yield question
        self.texts.end()
        self.positions.end()

    def _add_question(self, index: int, question: Any) -> None:  # noqa: ANN401  (a user's JSON)
        variations = question["variations"] if isinstance(question, dict) else []
        base = next((each for each in variations if isinstance(each, dict) and is_base(each)), {})
        for number, variation in enumerate(variations):
            if not isinstance(variation, dict) or "atp_analysis" not in variation:
                continue
            key = PairKey(index, number)
            try:
                self._add(key, question, variation, base)
            except NOT_AS_WRITTEN as error:
                msg = f"{self.path}: the atp_analysis of {key} is not as atp writes it."
                raise InputError(msg, "Run it again with --fresh.") from error

    def _add(
        self,
        key: PairKey,
        question: dict[str, Any],
        variation: dict[str, Any],
        base: dict[str, Any],
    ) -> None:
        analysis: Analysis = variation["atp_analysis"]
        kind = outcome(analysis)
        if kind == "elsewhere":  # another shard has it
            return
        reason = None if kind == "scored" else str(analysis[kind])
        texts = {
            "question_id": text(question.get("question_id")),
            "template_type": text(variation.get("template_type")),
            "dataset": text(question.get("dataset")),
            "outcome": kind,
            "reason": reason,
            **{name: text(analysis.get(name)) for name in PAIR_TEXTS[5:]},
        }
        for name, column in self.texts_of.items():
            column.append(texts[name])
        self.question.append(key.question)
        self.variation.append(key.variation)
        self.token_position.append(analysis.get("token_position", NONE))
        self.metric_name = next((name for name in METRICS if name in analysis), self.metric_name)
        self.metric.append(float(analysis.get(self.metric_name, "nan")))
        self._add_listed(analysis.get("top_features", ()))
        self._add_diagnostics(as_written(analysis.get("diagnostics", {})))
        sides = (variation.get("prompt"), variation.get("response"), base.get("response"))
        self.texts.add_texts(*(side if isinstance(side, str) else "" for side in sides))
        self._add_positions(analysis)

    def _add_listed(self, top: list[dict[str, Any]]) -> None:
        self.strongest.append(int(top[0]["id"]) if top else NONE)
        for entry in top:
            self.feature.append(int(entry["id"]))
            for name, column in self.listed.items():
                column.append(float(entry.get(name, "nan")))
                if math.isinf(column[-1]):
                    raise ValueError(name)  # as a float32
        self.start.append(len(self.feature))

    def _add_diagnostics(self, diagnostics: dict[str, Any]) -> None:
        pair = len(self) - 1
        sample = diagnostics.get("exact", {}).get("sample")
        if sample is not None:
            numbers = (float(sample[name]) for name in ("score", "effect", "relative_size"))
            score, effect, size = numbers
            self.samples.append((pair, int(sample["id"]), score, effect, size))
        for name, value in _numbers(diagnostics):
            column = self.diagnostics.setdefault(name, array("f"))
            column.extend([np.nan] * (pair - len(column)))
            column.append(value)

    def _add_positions(self, analysis: Analysis) -> None:
        """Add the prompt's tokens, and where each listed feature has its score in them."""
        tokens = analysis.get("prompt_tokens")
        value, size = None, 0
        if tokens is not None:
            self.has_positions = True
            scores = {
                entry["id"]: list(
                    zip(
                        entry["token_scores"]["positions"],
                        map(float, entry["token_scores"]["scores"]),
                        strict=True,
                    )
                )
                for entry in analysis["top_features"]
            }
            value = {"tokens": tokens, "features": scores}
            size = sum(map(len, tokens)) + 20 * sum(map(len, scores.values()))
        self.positions.add(value, size)

    def columns(self) -> dict[str, np.ndarray | TextColumn]:
        """Return the columns of the pairs, a row each."""
        diagnostics = {}
        for name, column in self.diagnostics.items():
            column.extend([np.nan] * (len(self) - len(column)))
            diagnostics[name] = np.asarray(column)
        return {
            "question": np.asarray(self.question),
            "variation": np.asarray(self.variation),
            **self.texts_of,
            "token_position": np.asarray(self.token_position),
            "metric": np.asarray(self.metric),
            "strongest": np.asarray(self.strongest),
            **diagnostics,
        }

    def listed_columns(self) -> dict[str, np.ndarray]:
        """Return what the pairs list, a row each, and in `start` where each pair's rows begin."""
        numbers = {name: np.asarray(column) for name, column in self.listed.items()}
        return {
            "feature": np.asarray(self.feature),
            **{
                name: column
                for name, column in numbers.items()
                if name in LISTED[:2] or not np.isnan(column).all()
            },
            "start": np.asarray(self.start),
        }


def text(value: Any) -> str | None:  # noqa: ANN401  (any JSON value)
    """Return a value of the input as a text; None where there is none."""
    return value if value is None or isinstance(value, str) else str(as_written(value))


def _numbers(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers in nested diagnostics, with dots in their names; samples are apart."""
    for name, value in values.items():
        if isinstance(value, dict) and name != "sample":
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, (bool, int, float)):
            yield prefix + name, float(value)
