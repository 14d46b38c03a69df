"""The forms in which a notebook gives pairs: a file, questions of its schema, or plain texts.

All become questions, so that pairs are formed by one rule, that of `atp run`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atp.dataset import reader
from atp.dataset.input_scan import InputScan, check_unchanged, scan_input
from atp.dataset.pairs import BrokenPair, Pair, pairs_of
from atp.errors import SettingsError
from atp.runtime.paths import local_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeAlias

Texts = tuple[str, str, str]
"""(prompt, sycophantic response, neutral response)."""
Pairs: TypeAlias = str | Path | Iterable[Texts | Mapping[str, Any]]
"""An input file; or questions in its schema; or the texts of each pair."""

IN_MEMORY = Path("<memory>")  # stands for the path of the input
HINT = "Give (prompt, sycophantic response, neutral response), or questions as in an input file."


@dataclass(frozen=True)
class Source:
    """The pairs of a call, which can be read more than once."""

    scan: InputScan
    held: Sequence[Any] | None = None  # the questions, if they are in memory
    of_texts: bool = False  # each pair is a question of its own

    def questions(self) -> Iterator[Any]:
        """Return the questions; an InputError says that the file has changed."""
        if self.held is not None:
            return iter(self.held)
        check_unchanged(self.scan)
        return reader.questions(self.scan.path)

    def pairs(self) -> Iterator[Pair | BrokenPair]:
        """Yield the pairs, in order."""
        for index, question in enumerate(self.questions()):
            yield from pairs_of(self.scan.path, question, index)

    def base_prompts(self) -> Iterator[str | None]:
        """Yield the base prompt of each question with a pair; of plain texts, each prompt once."""
        last, seen = None, set()
        for pair in self.pairs():
            if isinstance(pair, BrokenPair) or pair.key.question == last:
                continue
            last = pair.key.question
            if pair.base_prompt not in seen:
                yield pair.base_prompt
            if self.of_texts:
                seen.add(pair.base_prompt)


def source_of(pairs: Pairs, base_prompts: Sequence[str] | None) -> Source:
    """Check the form of pairs, and count them; an InputError or a SettingsError says what is wrong.

    A file is read once, from end to end; other pairs are kept.
    """
    if isinstance(pairs, str | Path):
        _no_base_prompts(base_prompts, "a file")
        return Source(scan_input(local_path(str(pairs))))
    given = list(pairs)
    of_texts = not any(isinstance(item, Mapping) for item in given)
    if of_texts:
        prompts = [None] * len(given) if base_prompts is None else list(base_prompts)
        if len(prompts) != len(given):
            msg = f"{len(given)} pairs have {len(prompts)} base_prompts."
            raise SettingsError(msg, "Give one for each pair.")
        given = [_question(*item) for item in zip(given, prompts, strict=True)]
    else:
        _no_base_prompts(base_prompts, "questions")
    scan = InputScan(IN_MEMORY, questions=len(given))
    scan.top_level = {"metadata": {}, "results": None}
    source = Source(scan, given, of_texts)
    digest = hashlib.sha256()
    for pair in source.pairs():
        text = repr(pair).encode(errors="backslashreplace")
        digest.update(text)
        scan.size += len(text)
        scan.pairs += 1
        scan.broken_pairs += isinstance(pair, BrokenPair)
    scan.sha256 = digest.hexdigest()
    return source


def _no_base_prompts(base_prompts: Sequence[str] | None, given: str) -> None:
    if base_prompts is not None:
        msg = f"base_prompts are for plain texts; {given} has them in its base variations."
        raise SettingsError(msg, "Leave base_prompts out.")


def _question(texts: object, base_prompt: str | None) -> dict[str, Any]:
    match texts:
        case [prompt, flagged, base]:
            pass
        case _:
            msg = f"{str(texts)[:80]!r} is no pair."
            raise SettingsError(msg, HINT)
    return {
        "variations": [
            {
                "template_type": "base",
                **({} if base_prompt is None else {"prompt": base_prompt}),
                "response": base,
            },
            {
                "template_type": "flagged",
                "prompt": prompt,
                "response": flagged,
                "sycophancy_flag": 1,
            },
        ]
    }
