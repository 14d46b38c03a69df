"""`atp run`: check, load, find an earlier run's journal, start the pipeline."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import structlog

from atp.config.shard import WHOLE
from atp.dataset import output
from atp.dataset.input_scan import scan_input
from atp.dataset.journal import SUFFIX, Journal, journals
from atp.run import setup
from atp.run.writer import catch_up

if TYPE_CHECKING:
    from pathlib import Path

    from atp.config.settings import Settings
    from atp.dataset.input_scan import InputScan
    from atp.errors import ExitCode
    from atp.run.setup import Loaded
    from atp.runtime.signals import StopRequest

log = structlog.get_logger()


def run(settings: Settings, stop: StopRequest) -> tuple[ExitCode, list[Path]]:
    """Score every pair of the input.

    Args:
        settings: what to do.
        stop: where signals ask for a stop.

    Returns:
        The exit code, OK or PAIRS_FAILED, and the result files.

    Raises:
        AtpError: anything the user can mend; what was computed before is in the journal.
    """
    specs = setup.check(settings)
    with output.held(settings.out):
        found = scan_input(settings.input)
        log.info(
            "run.start",
            input=str(found.path),
            out=str(settings.out),
            questions=found.questions,
            pairs=found.pairs,
            unpaired=found.broken_pairs,
            pid=os.getpid(),
            **({} if settings.shard is None else {"shard": str(settings.shard)}),
        )
        catch_up(settings.out, found)
        return score(settings, found, setup.load(settings, specs), stop)


def score(
    settings: Settings, found: InputScan, loaded: Loaded, stop: StopRequest
) -> tuple[ExitCode, list[Path]]:
    """Score every pair with what is loaded; returns and raises as `run` does."""
    # Imported here: they import torch, and what is wrong before they are needed need not wait.
    from atp.run.batch_runner import Worker  # noqa: PLC0415
    from atp.run.pipeline import Pipeline  # noqa: PLC0415
    from atp.run.writer import ResultWriter  # noqa: PLC0415
    from atp.scoring.scorer import Scorer  # noqa: PLC0415

    with _journal(settings, found, loaded) as journal:
        budget = journal.header["facts"]["settings"]["batch_tokens"]
        scorer = Scorer(loaded.model, loaded.dictionaries, settings.top_k, settings.scoring, budget)
        saver = ResultWriter(found, journal, len(loaded.dictionaries), settings.save_interval)
        shard = settings.shard or WHOLE
        return Pipeline(loaded.pair_tokenizer, Worker(scorer), saver, stop, shard).finish()


def _journal(settings: Settings, found: InputScan, loaded: Loaded) -> Journal:
    """Return the journal of an earlier run of the same fingerprint, or a new one.

    An earlier run keeps the token budget it began with, unless --batch-tokens asks for another:
    the default depends on the memory that is free.
    """
    from atp.model.budget import batch_tokens  # noqa: PLC0415  (imports torch)
    from atp.run.metadata import facts, fingerprint, now  # noqa: PLC0415

    budget = settings.batch_tokens or batch_tokens(loaded.model, loaded.dictionaries, settings.tail)
    known = facts(settings, found, loaded.model, loaded.dictionaries, budget)
    identity = fingerprint(known)
    earlier = journals(settings.out)
    for path, header in earlier:
        if header is None:
            log.warning("journal.unreadable", journal=str(path), reason="its first line is damaged")
        elif header["fingerprint"] == identity and not settings.fresh:
            begun_with = header["facts"]["settings"]["batch_tokens"]
            if settings.batch_tokens in {None, begun_with}:
                return _reopened(path)
    name = output.run_name(settings.out, loaded.model.name, shard=settings.shard)
    header = {
        "run": name,
        "number": 1 + max((header["number"] for _, header in earlier if header), default=0),
        "fingerprint": identity,
        "started": now(),
        "pairs": min(found.pairs, settings.limit or found.pairs),
        "settings": settings.as_json(),
        "results": output.result_names(name, [each.label for each in loaded.dictionaries]),
        "facts": known,
    }
    return Journal.create(settings.out / f"atp_results_{name}{SUFFIX}", header)


def _reopened(path: Path) -> Journal:
    journal = Journal.reopen(path)
    log.info(
        "run.resume",
        journal=str(path),
        done=journal.done,
        retried=len(journal) - journal.done,
        torn_bytes=journal.torn,
    )
    for damage in journal.damaged:
        log.warning(
            "journal.damaged",
            journal=str(path),
            line=damage.line,
            byte=damage.offset,
        )
    return journal
