"""What of the input an intervention runs: contrasts of pairs, base answers, prompts; as token ids.

Memory grows with the pairs, by their token ids; the rest of the input passes by.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from atp.dataset.pairs import BrokenPair, Pair, PairKey, is_base, pairs_of
from atp.dataset.reader import questions
from atp.model.pair_tokenizer import PairIssue, Text, TokenizedPair
from atp.scoring.analysis_json import issue_analysis

if TYPE_CHECKING:
    from pathlib import Path

    from atp.dataset.journal import Analysis
    from atp.model.pair_tokenizer import PairTokenizer


@dataclass
class Texts:
    """Token ids, by their place in the input."""

    contrasts: dict[PairKey, TokenizedPair] = field(default_factory=dict)
    without: dict[PairKey, Analysis] = field(default_factory=dict)
    """Why a pair has no contrast, as a run says it."""
    base_answers: dict[PairKey, Text] = field(default_factory=dict)
    """The base prompt and the base answer of each question with a pair."""
    prompts: dict[PairKey, Text] = field(default_factory=dict)
    """The flagged prompts and the base prompts."""
    failed: dict[PairKey, Analysis] = field(default_factory=dict)
    """What is wrong with a text that cannot be run for itself."""


def read_texts(path: Path, pair_tokenizer: PairTokenizer, limit: int | None) -> Texts:
    """Read the first `limit` pairs (all by default), and the base variations of their questions.

    Raises:
        InputError: as a run raises it.
    """
    found = Texts()
    count = 0
    for index, question in enumerate(questions(path)):
        first = True
        for pair in pairs_of(path, question, index):
            if count == limit:
                return found
            count += 1
            if isinstance(pair, BrokenPair):
                found.without[pair.key] = {"error": pair.error, "details": pair.details}
                continue
            if first:
                _add_base(found, pair_tokenizer, question, index)
                first = False
            _add_pair(found, pair_tokenizer, pair)
    return found


def _add_pair(found: Texts, pair_tokenizer: PairTokenizer, pair: Pair) -> None:
    contrast = pair_tokenizer(pair.prompt, pair.target_response, pair.base_response)
    if isinstance(contrast, TokenizedPair):
        found.contrasts[pair.key] = contrast
    else:
        found.without[pair.key] = issue_analysis(contrast)
    _keep(found.prompts, found, pair.key, pair_tokenizer.text(pair.prompt))


def _add_base(found: Texts, pair_tokenizer: PairTokenizer, question: Any, index: int) -> None:  # noqa: ANN401
    number, base = next(
        (i, variation) for i, variation in enumerate(question["variations"]) if is_base(variation)
    )
    key, prompt, response = PairKey(index, number), base.get("prompt"), base.get("response")
    if not isinstance(prompt, str):
        found.failed[key] = {"error": "Prompt missing", "details": {"field": f"{key}.prompt"}}
        return
    _keep(found.prompts, found, key, pair_tokenizer.text(prompt))
    if response:
        _keep(found.base_answers, found, key, pair_tokenizer.text(prompt, response))


def _keep(where: dict[PairKey, Text], found: Texts, key: PairKey, text: Text | PairIssue) -> None:
    if isinstance(text, Text):
        where[key] = text
    else:
        found.failed[key] = issue_analysis(text)
