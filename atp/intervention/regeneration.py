"""Responses generated again, with and without features, and kept in a journal batch by batch.

A journal of the same fingerprint is continued. At the end two files are written in the input's own
schema, for the judge that labelled the input: each question with a pair, with its base variation
and its flagged ones, with the new responses and without flags.
"""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from atp.dataset.atomic import atomic_write
from atp.dataset.input_scan import check_unchanged
from atp.dataset.journal import Journal
from atp.dataset.pairs import PairKey
from atp.dataset.reader import questions
from atp.dataset.results import write_all
from atp.intervention.runner import batches_of
from atp.model.generation import generate, text_of
from atp.runtime.live import phase

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from atp.config.intervention import InterventionSettings
    from atp.dataset.input_scan import InputScan
    from atp.dataset.results import Analysed
    from atp.intervention.ablate import FeatureSet
    from atp.intervention.runner import AblationRunner
    from atp.model.pair_tokenizer import Text

SUFFIX = ".answers.jsonl"  # of the journals; those of runs have another one
REPLACED_FIELDS = ("sycophancy_flag", "atp_analysis")  # they describe the earlier response

log = structlog.get_logger()


def regenerate(
    runner: AblationRunner,
    sets: Sequence[FeatureSet],
    prompts: Mapping[PairKey, Text],
    journal: Journal,
    settings: InterventionSettings,
) -> None:
    """Generate both responses to the prompts that the journal lacks: with and without features."""
    context = runner.model.n_ctx

    def length(key: PairKey) -> int:
        return len(prompts[key].tokens)

    left = []
    for key in prompts:
        if journal.is_done(key):
            continue
        if length(key) > context - settings.max_new_tokens:
            details = {"tokens": length(key), "context": context}
            journal.add(key, [{"error": "Sequence too long", "details": details}])
        else:
            left.append(key)

    def work(keys: Sequence[PairKey]) -> list[dict[str, Any]]:
        rows = [prompts[key].tokens for key in keys]
        generated = generate(
            runner.model,
            rows,
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            seeds=[seed_of(settings.seed, key) for key in keys],
        )
        return [
            {
                "response": text_of(runner.model, row, response.tokens),
                "tokens": len(response.tokens),
                "ended": response.ended,
            }
            for row, response in zip(rows, generated, strict=True)
        ]

    out_of_memory: dict[str, Any] = {"error": "OOM", "details": {}}
    done = len(prompts) - len(left)
    with phase("writing new responses", len(prompts), done, "prompts") as line:
        for keys in batches_of(left, length, runner.batch_tokens):
            both = []
            for ablation in (nullcontext(), runner.without(sets)):
                with ablation:
                    both.append(runner.in_halves(work, keys, length))
            entries = [
                (key, [before or out_of_memory, after or out_of_memory])
                for key, before, after in zip(keys, *both, strict=True)
            ]
            journal.add_all(entries)
            journal.save()
            line.advance(len(keys))
            log.info("intervene.answers", done=line.done, total=len(prompts))


def seed_of(seed: int, key: object) -> int:
    """Return the seed of one response by its key, the same before and after."""
    digest = hashlib.sha256(f"{seed} {key}".encode()).digest()
    return int.from_bytes(digest[:7])


def fingerprint(metadata: Mapping[str, Any]) -> str:
    """Return the hash of all that decides a response."""
    names = ("strength", "spare_first", "max_new_tokens", "temperature", "seed", "chat_template")
    deciding = {
        **{name: metadata[name] for name in ("model", "versions", "source_sha256")},
        "input": metadata["input"]["sha256"],
        "saes": [
            {"sha256": features["sae"].get("sha256"), "selected": features["selected"]}
            for features in metadata["features"]["saes"]
        ],
        "settings": {name: metadata["settings"][name] for name in (*names, "limit")},
    }
    return hashlib.sha256(orjson.dumps(deciding, option=orjson.OPT_SORT_KEYS)).hexdigest()


def open_journal(folder: Path, name: str, identity: str, *, fresh: bool) -> Journal:
    """Return the last journal of the same fingerprint, or a new one."""
    earlier = sorted(folder.glob(f"*{SUFFIX}"), reverse=True)  # by the time in their names
    for path in [] if fresh else earlier:
        header = Journal.header_of(path)
        if header is not None and header.get("fingerprint") == identity:
            journal = Journal.reopen(path)
            log.info("intervene.resume", journal=str(path), done=journal.done)
            return journal
    return Journal.create(folder / f"{name}{SUFFIX}", {"run": name, "fingerprint": identity})


def write_responses(
    scan: InputScan, journal: Journal, paths: Sequence[Path], metadata: Sequence[dict[str, Any]]
) -> None:
    """Write the responses before and after, a file each, with `metadata.atp` of each."""
    check_unchanged(scan)
    for side, (path, entry) in enumerate(zip(paths, metadata, strict=True)):
        with atomic_write(path) as file:
            regenerated = _regenerated(scan.path, journal, side)
            write_all([file], scan.top_level, regenerated, [entry], indented=scan.indented)


def _regenerated(path: Path, journal: Journal, side: int) -> Iterator[Analysed]:
    """Yield the questions with new responses, without variations that have none."""
    for index, question in enumerate(questions(path)):
        variations = []
        for number, variation in enumerate(question["variations"]):
            key = PairKey(index, number)
            responses = journal.analyses(key) if journal.is_done(key) else None
            if responses is not None:
                kept = {key: variation[key] for key in variation if key not in REPLACED_FIELDS}
                variations.append({**kept, "response": responses[side]["response"]})
        if variations:
            question["variations"] = variations
            yield question, {}


def describe(journal: Journal, prompts: Mapping[PairKey, Text]) -> dict[str, Any]:
    """Return `answers` of the report."""
    entries = [journal.analyses(key) for key in prompts if journal.is_done(key)]
    both = [responses for responses in entries if responses is not None]
    sides = {
        name: {
            "ended": sum(responses[side]["ended"] for responses in both),
            "tokens": sum(responses[side]["tokens"] for responses in both),
        }
        for side, name in enumerate(("before", "after"))
    }
    changed = sum(before["response"] != after["response"] for before, after in both)
    return {"prompts": len(prompts), "answered": len(both), "changed": changed, **sides}
