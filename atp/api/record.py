"""The record of a run in memory: its facts and analyses, and the JSON of its result files."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atp.dataset.result_files import ResultFile
from atp.dataset.results import write_all
from atp.run.metadata import metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from atp.api.pairs import Source
    from atp.dataset.input_scan import InputScan
    from atp.dataset.journal import Analysis
    from atp.dataset.pairs import BrokenPair, Pair


@dataclass(frozen=True)
class Record:
    """What a run found, and with which settings: a journal in memory."""

    source: Source
    header: dict[str, Any]
    finished: str
    pairs: Sequence[Pair | BrokenPair]
    analyses: Sequence[list[Analysis]]  # of each pair, one for each SAE

    def all_analyses(self) -> Sequence[list[Analysis]]:
        """Return those of every pair, in order."""
        return self.analyses

    def __len__(self) -> int:
        return len(self.analyses)

    def content(self, number: int) -> dict[str, Any]:
        """Return the content of the result file of an SAE."""
        described, content = metadata(self.source.scan, self, self.finished), io.BytesIO()
        top_level, analysed = self.source.scan.top_level, self._analysed(number)
        write_all([content], top_level, analysed, [described[number]], indented=False)
        decoded: dict[str, Any] = json.loads(content.getvalue())
        return decoded

    def result_file(self, number: int, name: str) -> ResultFile:
        """Return the result of an SAE as `select_features` reads files; errors give the name."""
        described = metadata(self.source.scan, self, self.finished)[number]
        scan = replace(self.source.scan, path=Path(name))
        return _InMemory(scan, described, partial(self._questions, number))

    def _analysed(self, number: int) -> Iterator[tuple[Any, dict[int, list[Analysis]]]]:
        """Yield each question without analyses, and its analyses by variation."""
        pairs = iter(zip(self.pairs, self.analyses, strict=True))
        following = next(pairs, None)
        for index, question in enumerate(self.source.questions()):
            kept = [
                {key: value for key, value in variation.items() if key != "atp_analysis"}
                for variation in question["variations"]
            ]
            found = {}
            while following is not None and following[0].key.question == index:
                pair, of_pair = following
                found[pair.key.variation] = [of_pair[number]]
                following = next(pairs, None)
            yield {**question, "variations": kept}, found

    def _questions(self, number: int) -> Iterator[Any]:
        for question, found in self._analysed(number):
            for variation, (analysis,) in found.items():
                question["variations"][variation]["atp_analysis"] = analysis
            yield question


class _InMemory(ResultFile):
    """The result of one SAE, whose questions are not in a file."""

    def __init__(
        self, scan: InputScan, described: dict[str, Any], questions: Callable[[], Iterator[Any]]
    ) -> None:
        sae, run = described["sae"], described["fingerprint"]
        started = datetime.fromisoformat(described["started"])
        identity = (sae["hook_name"], sae["sha256"])
        super().__init__(scan.path, described, None, started, run, identity, scan)
        self._questions = questions

    def questions(self) -> Iterator[Any]:
        """Yield the questions with their analyses."""
        return self._questions()
