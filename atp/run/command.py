"""`atp run`: check, lock the output folder, scan the input, load, score."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import structlog

from atp.config.shard import WHOLE
from atp.dataset import output
from atp.dataset.input_scan import scan_input
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
    """Score every pair of the input; return OK or PAIRS_FAILED, and the result files.

    AtpError is anything that the user can mend; the journal holds the results so far.
    """
    specs = setup.check(settings)
    with output.held(settings.out):
        scan = scan_input(settings.input)
        log.info(
            "run.start",
            input=str(scan.path),
            out=str(settings.out),
            questions=scan.questions,
            pairs=scan.pairs,
            unpaired=scan.broken_pairs,
            pid=os.getpid(),
            **({} if settings.shard is None else {"shard": str(settings.shard)}),
        )
        catch_up(settings.out, scan)
        return score(settings, scan, setup.load(settings, specs), stop)


def score(
    settings: Settings, scan: InputScan, loaded: Loaded, stop: StopRequest
) -> tuple[ExitCode, list[Path]]:
    """Score every pair with a loaded model; returns and raises as `run` does."""
    # Imported here: they import torch, and earlier errors need not wait for it.
    from atp.run.batch_runner import BatchRunner  # noqa: PLC0415
    from atp.run.pipeline import Pipeline  # noqa: PLC0415
    from atp.run.resume import open_journal  # noqa: PLC0415
    from atp.run.writer import ResultWriter  # noqa: PLC0415
    from atp.scoring.scorer import Scorer  # noqa: PLC0415

    with open_journal(settings, scan, loaded) as journal:
        budget = journal.header["facts"]["settings"]["batch_tokens"]
        scorer = Scorer(loaded.model, loaded.dictionaries, settings.top_k, settings.scoring, budget)
        writer = ResultWriter(scan, journal, len(loaded.dictionaries), settings.save_interval)
        runner, shard = BatchRunner(scorer), settings.shard or WHOLE
        return Pipeline(loaded.pair_tokenizer, runner, writer, stop, shard).run()
