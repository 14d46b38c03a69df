"""`atp run`: check, load, find an earlier run's journal, start the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from atp import prepare
from atp.dataset import output
from atp.dataset.journal import SUFFIX, Journal
from atp.dataset.survey import survey
from atp.signals import stop_on_signal

if TYPE_CHECKING:
    from pathlib import Path

    from atp.dataset.survey import Survey
    from atp.errors import ExitCode
    from atp.prepare import Loaded
    from atp.settings import Settings
    from atp.signals import StopRequest

log = structlog.get_logger()


def run(settings: Settings) -> tuple[ExitCode, list[Path]]:
    """Score every pair of the input.

    Returns:
        The exit code, OK or PAIRS_FAILED, and the result files.

    Raises:
        AtpError: anything the user can mend; what was computed before is in the journal.
    """
    specs = prepare.check(settings)
    with output.held(settings.out):
        found = survey(settings.input)
        log.info(
            "run.start",
            input=str(found.path),
            questions=found.questions,
            pairs=found.pairs,
            unpaired=found.broken_pairs,
        )
        with stop_on_signal() as stop:
            return score(settings, found, prepare.load(settings, specs), stop)


def score(
    settings: Settings, found: Survey, loaded: Loaded, stop: StopRequest
) -> tuple[ExitCode, list[Path]]:
    """Score every pair with what is loaded; returns and raises as `run` does."""
    # Imported here: they import torch, and what is wrong before they are needed need not wait.
    from atp.pipeline import Pipeline  # noqa: PLC0415
    from atp.worker import Worker  # noqa: PLC0415

    worker = Worker(loaded.model, loaded.dictionaries, settings.top_k)
    with _journal(settings, found, loaded) as journal:
        pipeline = Pipeline(settings, found, loaded.contraster, worker, journal, stop)
        return pipeline.finish()


def _journal(settings: Settings, found: Survey, loaded: Loaded) -> Journal:
    """Return the journal of an earlier run of the same fingerprint, or a new one.

    An earlier run keeps the token budget it began with, unless --batch-tokens asks for another:
    the default depends on the memory that is free.
    """
    from atp.model.budget import batch_tokens  # noqa: PLC0415  (imports torch)
    from atp.record import facts, fingerprint, now  # noqa: PLC0415

    budget = settings.batch_tokens or batch_tokens(loaded.model, loaded.dictionaries)
    known = facts(settings, found, loaded.model, loaded.dictionaries, budget)
    identity = fingerprint(known)
    if not settings.fresh:
        for path in sorted(settings.out.glob(f"*{SUFFIX}"), reverse=True):
            header = Journal.header_of(path) or {}
            if header.get("fingerprint") != identity:
                continue
            if settings.batch_tokens not in {None, header["facts"]["settings"]["batch_tokens"]}:
                continue
            if (journal := Journal.reopen(path)) is not None:
                log.info("run.resume", journal=str(path), done=len(journal))
                return journal
    name = output.run_name(settings.out, loaded.model.name)
    header = {
        "run": name,
        "fingerprint": identity,
        "started": now(),
        "results": output.result_names(name, [each.label for each in loaded.dictionaries]),
        "facts": known,
    }
    return Journal.create(settings.out / f"atp_results_{name}{SUFFIX}", header)
