"""`atp run`: check what can be checked, load, find an earlier run's journal, start the pipeline.

torch and all that needs it is imported inside `run`: names, settings, input and output folder are
checked before it is loaded.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import structlog

from atp.dataset import output
from atp.dataset.journal import SUFFIX, Journal
from atp.dataset.source import opened
from atp.dataset.survey import survey as survey_input
from atp.model.names import check_model_name, check_sae_spec, check_same_model
from atp.signals import stop_on_signal

if TYPE_CHECKING:
    from pathlib import Path

    from atp.dataset.survey import Survey
    from atp.errors import ExitCode
    from atp.model.contrast import Contraster
    from atp.model.dictionaries import Dictionary
    from atp.model.loading import Model
    from atp.settings import Settings

BATCH_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Default --batch-tokens by device. On a CPU larger batches gain nothing; a GPU is unmeasured."""

log = structlog.get_logger()


def run(settings: Settings) -> tuple[ExitCode, list[Path]]:
    """Score every pair of the input.

    Returns:
        The exit code, OK or PAIRS_FAILED, and the result files.

    Raises:
        AtpError: anything the user can mend; what was computed before is in the journal.
    """
    check_model_name(settings.model, settings.revision)
    for spec in settings.sae_specs:
        trained_on = check_sae_spec(spec)
        if trained_on and not settings.allow_other_model:
            check_same_model(settings.model, trained_on, spec)
    with opened(settings.input):
        pass  # whether it is there, before the output folder is made
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
            model, dictionaries, contraster = _load(settings)
            total = min(survey.pairs, settings.limit or survey.pairs)
            with _journal(settings, survey, model, dictionaries) as journal:
                from atp.pipeline import Pipeline  # noqa: PLC0415  (imports torch)

                pipeline = Pipeline(
                    settings,
                    survey,
                    model,
                    dictionaries,
                    contraster,
                    journal,
                    total,
                    stop,
                    refresh_seconds=2 * survey_seconds,
                )
                return pipeline.finish()


def _load(settings: Settings) -> tuple[Model, list[Dictionary], Contraster]:
    began = time.monotonic()
    from atp.model.contrast import Contraster  # noqa: PLC0415
    from atp.model.dictionaries import load_sae  # noqa: PLC0415
    from atp.model.loading import load_model, without_progress_bars  # noqa: PLC0415
    from atp.scoring import check_dictionaries  # noqa: PLC0415  (imports torch)

    if not sys.stderr.isatty():
        without_progress_bars()
    model = load_model(
        settings.model,
        revision=settings.revision,
        device=settings.device,
        dtype=settings.model_dtype,
    )
    contraster = Contraster(
        model,
        max_tokens_to_check=settings.max_tokens_to_check,
        chat_template=settings.chat_template,
    )
    dictionaries = [load_sae(spec, device=model.device) for spec in settings.sae_specs]
    for dictionary in dictionaries:
        known_before = check_sae_spec(dictionary.spec) is not None
        if not (known_before or settings.allow_other_model):
            check_same_model(settings.model, dictionary.trained_on, dictionary.spec)
    check_dictionaries(model, dictionaries)
    log.info(
        "model.loaded",
        model=model.name,
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        saes=[dictionary.spec for dictionary in dictionaries],
        seconds=round(time.monotonic() - began, 1),
    )
    return model, dictionaries, contraster


def _journal(
    settings: Settings, survey: Survey, model: Model, dictionaries: list[Dictionary]
) -> Journal:
    """Return the journal of an earlier run of the same fingerprint, or a new one."""
    from atp.record import facts, fingerprint, now  # noqa: PLC0415

    batch_tokens = settings.batch_tokens or BATCH_TOKENS[model.device.type]
    known = facts(settings, survey, model, dictionaries, batch_tokens)
    identity = fingerprint(known)
    if not settings.fresh:
        for path in sorted(settings.out.glob(f"*{SUFFIX}"), reverse=True):
            if (Journal.header_of(path) or {}).get("fingerprint") != identity:
                continue
            if (journal := Journal.reopen(path)) is not None:
                log.info("run.resume", journal=str(path), done=len(journal))
                return journal
    name = output.run_name(settings.out, model.name)
    header = {
        "run": name,
        "fingerprint": identity,
        "started": now(),
        "results": output.result_names(name, [dictionary.label for dictionary in dictionaries]),
        "facts": known,
    }
    return Journal.create(settings.out / f"atp_results_{name}{SUFFIX}", header)
