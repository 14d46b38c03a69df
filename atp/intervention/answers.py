"""Answers generated anew, with and without features, kept in a journal batch by batch.

What a journal of the same fingerprint holds is not generated again. At the end two files are
written, in the input's own schema, for the judge that labelled the input: the questions with a
pair, of each its base variation and those that are flagged, with the new answers and without flags.
"""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from atp.dataset.atomic import atomic_write
from atp.dataset.input_scan import check_unchanged
from atp.dataset.journal import Journal
from atp.dataset.pairs import PairKey
from atp.dataset.reader import questions
from atp.dataset.results import write_all
from atp.intervention.passes import batches_of, halving
from atp.model.generation import generate, text_of
from atp.model.pair_tokenizer import too_long
from atp.scoring.analysis_json import issue_analysis

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from atp.dataset.input_scan import InputScan
    from atp.dataset.results import Analysed
    from atp.intervention.ablate import FeatureSet
    from atp.intervention.runner import AblationRunner
    from atp.model.pair_tokenizer import Text

SUFFIX = ".answers.jsonl"
"""Of journals; another one than that of a run's."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Generation:
    """How answers are made."""

    trial: AblationRunner
    sets: Sequence[FeatureSet]
    """What "after" goes without."""
    max_new_tokens: int
    temperature: float
    seed: int

    def fill(self, journal: Journal, prompts: Mapping[PairKey, Text]) -> None:
        """Generate both answers to the prompts that the journal lacks.

        Raises:
            SaveError: the journal cannot be written.
        """
        left = [key for key in prompts if not journal.is_done(key)]
        context = self.trial.model.n_ctx
        room = context - self.max_new_tokens
        without_room = [key for key in left if len(prompts[key].tokens) > room]
        for key in without_room:
            journal.add(key, [issue_analysis(too_long(len(prompts[key].tokens), context))])
        left = [key for key in left if key not in set(without_room)]
        lengths = [len(prompts[key].tokens) for key in left]
        done = len(prompts) - len(left)
        for indices in batches_of(lengths, self.trial.batch_tokens):
            keys = [left[i] for i in indices]
            self._batch(journal, keys, prompts)
            done += len(keys)
            log.info("intervene.answers", done=done, total=len(prompts))

    def _batch(
        self, journal: Journal, keys: Sequence[PairKey], prompts: Mapping[PairKey, Text]
    ) -> None:
        model = self.trial.model

        def work(part: Sequence[PairKey]) -> list[dict[str, Any]]:
            rows = [prompts[key].tokens for key in part]
            found = generate(
                model,
                rows,
                max_new_tokens=self.max_new_tokens,
                temperature=self.temperature,
                seeds=[_seed(self.seed, key) for key in part],
            )
            return [
                {
                    "response": text_of(model, row, answer.tokens),
                    "tokens": len(answer.tokens),
                    "ended": answer.ended,
                }
                for row, answer in zip(rows, found, strict=True)
            ]

        both = []
        contexts: list[AbstractContextManager[None]] = [
            nullcontext(),
            self.trial.without(self.sets),
        ]
        for context in contexts:
            with context:
                both.append(halving(model, work, keys, lambda key: len(prompts[key].tokens)))
        oom: dict[str, Any] = {"error": "OOM", "details": {}}
        entries = [
            (key, [before or oom, after or oom])
            for key, before, after in zip(keys, *both, strict=True)
        ]
        journal.add_all(entries)
        journal.save()


def _seed(seed: int, key: PairKey) -> int:
    """Return the seed of one answer, the same before and after."""
    digest = hashlib.sha256(f"{seed} {key}".encode()).digest()
    return int.from_bytes(digest[:7])


def opened(folder: Path, name: str, fingerprint: str, *, fresh: bool) -> Journal:
    """Return the journal of the last start of the same fingerprint, or a new one."""
    earlier = sorted(folder.glob(f"*{SUFFIX}"), reverse=True)  # by the time in their names
    for path in [] if fresh else earlier:
        header = Journal.header_of(path)
        if header is not None and header.get("fingerprint") == fingerprint:
            journal = Journal.reopen(path)
            log.info("intervene.resume", journal=str(path), done=journal.done)
            return journal
    return Journal.create(folder / f"{name}{SUFFIX}", {"run": name, "fingerprint": fingerprint})


def write_answers(
    scan: InputScan, journal: Journal, paths: Sequence[Path], metadata: Sequence[dict[str, Any]]
) -> None:
    """Write the answers before and after, a file each.

    Args:
        scan: of the input.
        journal: the answers.
        paths: of the two files.
        metadata: `metadata.atp` of each.

    Raises:
        SaveError: a file cannot be written.
        InputError: the input was changed.
    """
    check_unchanged(scan)
    for which, (path, entry) in enumerate(zip(paths, metadata, strict=True)):
        with atomic_write(path) as file:
            found = _answered(scan.path, journal, which)
            write_all([file], scan.top_level, found, [entry], indented=scan.indented)


def _answered(path: Path, journal: Journal, which: int) -> Iterator[Analysed]:
    """Yield the questions with new answers, and no variation that has none."""
    for index, question in enumerate(questions(path)):
        variations = []
        for number, variation in enumerate(question["variations"]):
            key = PairKey(index, number)
            if not journal.is_done(key):
                continue
            answers = journal.analyses(key)
            if answers is None:
                continue
            kept = {name: value for name, value in variation.items() if name not in DROPPED}
            kept["response"] = answers[which]["response"]
            variations.append(kept)
        if variations:
            question["variations"] = variations
            yield question, {}


DROPPED = ("sycophancy_flag", "atp_analysis")
"""What was said of the answer that stood there before."""


def told(journal: Journal, prompts: Mapping[PairKey, Text]) -> dict[str, Any]:
    """Return what a report says of the answers."""
    answers = [journal.analyses(key) for key in prompts if journal.is_done(key)]
    pairs = [found for found in answers if found is not None]
    return {
        "prompts": len(prompts),
        "answered": len(pairs),
        "changed": sum(one["response"] != other["response"] for one, other in pairs),
        **{
            name: {
                "ended": sum(found[which]["ended"] for found in pairs),
                "tokens": sum(found[which]["tokens"] for found in pairs),
            }
            for which, name in enumerate(("before", "after"))
        },
    }
