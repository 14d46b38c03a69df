"""`atp run`: check, load, find an earlier run's journal, start the pipeline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from atp import prepare
from atp.dataset import output
from atp.dataset.journal import SUFFIX, Journal
from atp.dataset.survey import survey as survey_input
from atp.signals import stop_on_signal

if TYPE_CHECKING:
    from pathlib import Path

    from atp.dataset.survey import Survey
    from atp.errors import ExitCode
    from atp.prepare import Loaded
    from atp.settings import Settings

log = structlog.get_logger()


def run(settings: Settings) -> tuple[ExitCode, list[Path]]:
    """Score every pair of the input.

    Returns:
        The exit code, OK or PAIRS_FAILED, and the result files.

    Raises:
        AtpError: anything the user can mend; what was computed before is in the journal.
    """
    specs = prepare.check(settings)
    began = time.monotonic()
    with output.held(settings.out):
        survey = survey_input(settings.input)
        survey_seconds = time.monotonic() - began
        log.info(
            "run.start",
            input=str(survey.path),
            questions=survey.questions,
            pairs=survey.pairs,
            unpaired=survey.broken_pairs,
        )
        with stop_on_signal() as stop:
            loaded = prepare.load(settings, specs)
            with find_journal(settings, survey, loaded) as journal:
                # Imported here: they import torch, and what was wrong before need not wait.
                from atp.pipeline import Pipeline  # noqa: PLC0415
                from atp.worker import Worker  # noqa: PLC0415

                pipeline = Pipeline(
                    settings,
                    survey,
                    loaded.contraster,
                    Worker(loaded.model, loaded.dictionaries, settings.top_k),
                    journal,
                    stop,
                    refresh_seconds=2 * survey_seconds,
                )
                return pipeline.finish()


def find_journal(settings: Settings, survey: Survey, loaded: Loaded) -> Journal:
    """Return the journal of an earlier run of the same fingerprint, or a new one.

    An earlier run keeps the token budget it began with, unless --batch-tokens asks for another:
    the default depends on the memory that is free.
    """
    from atp.model.budget import batch_tokens  # noqa: PLC0415  (imports torch)
    from atp.record import facts, fingerprint, now  # noqa: PLC0415

    budget = settings.batch_tokens or batch_tokens(loaded.model)
    known = facts(settings, survey, loaded.model, loaded.dictionaries, budget)
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
