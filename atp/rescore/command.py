"""`atp rescore`: finds the vectors, checks the SAEs against them, and scores without the model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import structlog
import torch

from atp.dataset import output
from atp.dataset.input_scan import scan_input
from atp.errors import InputError, SettingsError
from atp.model.dictionaries.loading import load_sae
from atp.model.dictionaries.names import check_sae_spec, expand_sae_specs
from atp.model.dictionaries.picking import sae_specs
from atp.model.dictionaries.placement import Dictionaries
from atp.model.hub.records import go_offline_if_fetched
from atp.model.names import check_same_model
from atp.rescore.engine import FromVectors
from atp.run.pipeline import Pipeline
from atp.run.resume import open_journal
from atp.run.writer import ResultWriter, catch_up
from atp.runtime.live import phase
from atp.vectors.reader import Vectors

if TYPE_CHECKING:
    from pathlib import Path

    from atp.config.rescore import RescoreSettings
    from atp.config.settings import Settings
    from atp.dataset.input_scan import InputScan
    from atp.errors import ExitCode
    from atp.runtime.signals import StopRequest

SAVE_INTERVAL = 1000
"""Pairs after which results are saved: a few seconds of work."""

log = structlog.get_logger()


def rescore(own: RescoreSettings, stop: StopRequest) -> tuple[ExitCode, list[Path]]:
    """Score the captured pairs of a run; return OK or PAIRS_FAILED, and the result files.

    AtpError is anything that the user can mend; the journal holds the results so far.
    """
    vectors = Vectors.open(own.vectors)
    settings = own.settings(vectors.run["settings"])
    if settings.scoring.baseline == "mean":
        msg = f"{vectors.folder} is of a run with --baseline=mean, and the mean of another SAE "
        msg += "needs the model."
        raise SettingsError(msg, "Use the vectors of a run with another baseline.")
    specs = _checked_specs(settings)
    with output.held(settings.out):
        scan = scan_input(settings.input)
        _check_input(vectors, scan)
        log.info(
            "rescore.start",
            vectors=str(vectors.folder),
            input=str(scan.path),
            out=str(settings.out),
            pairs=vectors.run["pairs"],
            pid=os.getpid(),
        )
        catch_up(settings.out, scan)
        with phase(f"loading {len(specs)} SAE{'s' if len(specs) > 1 else ''}"):
            dictionaries = _load(settings, specs)
        return _score(settings, scan, FromVectors(vectors, dictionaries, settings), stop)


def _score(
    settings: Settings, scan: InputScan, engine: FromVectors, stop: StopRequest
) -> tuple[ExitCode, list[Path]]:
    with open_journal(settings, scan, engine) as journal:
        engine.is_done = journal.is_done
        writer = ResultWriter(scan, journal, len(engine.labels), SAVE_INTERVAL)
        planner = engine.planner(journal.header["facts"]["settings"]["batch_tokens"])
        return Pipeline(engine, planner, writer, stop).run()


def _checked_specs(settings: Settings) -> tuple[str, ...]:
    """Check the names of SAEs; return them, patterns expanded."""
    specs = expand_sae_specs(sae_specs(settings))
    for spec in specs:
        trained_on = check_sae_spec(spec)
        if not settings.allow_other_model:
            check_same_model(settings.model, trained_on, spec)
    go_offline_if_fetched(None, None, specs)
    return specs


def _load(settings: Settings, specs: tuple[str, ...]) -> Dictionaries:
    from atp.model.loading import quiet_libraries  # noqa: PLC0415  (seconds: names first)

    quiet_libraries()
    loaded = [load_sae(spec) for spec in specs]
    for dictionary in () if settings.allow_other_model else loaded:
        check_same_model(settings.model, dictionary.trained_on, dictionary.spec)
    return Dictionaries(loaded, torch.device("cpu"))


def _check_input(vectors: Vectors, scan: InputScan) -> None:
    if scan.sha256 != vectors.run["facts"]["input"]["sha256"]:
        msg = f"{scan.path} is not the input of {vectors.folder}: its sha256 differs."
        hint = f"Name the file that was {vectors.run['settings']['input']}, as it was: "
        raise InputError(msg, hint + "atp rescore VECTORS INPUT.")
