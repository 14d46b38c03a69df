"""The texts that an intervention runs, as token ids: pairs, base responses, prompts.

Memory grows with the token ids of the pairs; the rest of the input is streamed.
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

    pairs: dict[PairKey, TokenizedPair] = field(default_factory=dict)
    pair_issues: dict[PairKey, Analysis] = field(default_factory=dict)  # why it has no contrast
    base_responses: dict[PairKey, Text] = field(default_factory=dict)  # each after its base prompt
    prompts: dict[PairKey, Text] = field(default_factory=dict)  # the flagged and the base prompts
    text_issues: dict[PairKey, Analysis] = field(default_factory=dict)  # why it cannot be run

    def add_pair(self, pair: Pair, tokenizer: PairTokenizer) -> None:
        """Add a pair and its prompt."""
        contrast = tokenizer(pair.prompt, pair.target_response, pair.base_response)
        if isinstance(contrast, TokenizedPair):
            self.pairs[pair.key] = contrast
        else:
            self.pair_issues[pair.key] = issue_analysis(contrast)
        self._add(self.prompts, pair.key, tokenizer.text(pair.prompt))

    def add_base(self, question: Any, index: int, tokenizer: PairTokenizer) -> None:  # noqa: ANN401
        """Add the base prompt of a question, and its base response."""
        number, base = next(item for item in enumerate(question["variations"]) if is_base(item[1]))
        key, prompt, response = PairKey(index, number), base.get("prompt"), base.get("response")
        if not isinstance(prompt, str):
            details = {"field": f"{key}.prompt"}
            self.text_issues[key] = {"error": "Prompt missing", "details": details}
            return
        self._add(self.prompts, key, tokenizer.text(prompt))
        if response:
            self._add(self.base_responses, key, tokenizer.text(prompt, response))

    def _add(self, texts: dict[PairKey, Text], key: PairKey, text: Text | PairIssue) -> None:
        if isinstance(text, Text):
            texts[key] = text
        else:
            self.text_issues[key] = issue_analysis(text)


def read_texts(path: Path, tokenizer: PairTokenizer, limit: int | None) -> Texts:
    """Read the first `limit` pairs (None: all), and the base variations of their questions."""
    texts = Texts()
    count = 0
    for index, question in enumerate(questions(path)):
        has_base = False
        for pair in pairs_of(path, question, index):
            if count == limit:
                return texts
            count += 1
            if isinstance(pair, BrokenPair):
                texts.pair_issues[pair.key] = {"error": pair.error, "details": pair.details}
                continue
            if not has_base:
                texts.add_base(question, index, tokenizer)
                has_base = True
            texts.add_pair(pair, tokenizer)
    return texts
