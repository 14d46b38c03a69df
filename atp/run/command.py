"""`atp run`: check, lock the output folder, scan the input, load, score."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from atp.config.run import RunSettings
from atp.config.shard import WHOLE
from atp.dataset import output
from atp.dataset.input_scan import scan_input
from atp.run import setup
from atp.run.writer import catch_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from atp.config.run import VectorType
    from atp.config.settings import Settings
    from atp.dataset.input_scan import InputScan
    from atp.errors import ExitCode
    from atp.run.tasks import Engine
    from atp.runtime.signals import StopRequest

log = structlog.get_logger()


def run(
    settings: Settings, stop: StopRequest, own: RunSettings | None = None
) -> tuple[ExitCode, list[Path]]:
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
        own = own or RunSettings()
        with _engine(settings, own, scan, specs) as engine:
            return score(settings, scan, engine, stop, own.save_vectors)


@contextmanager
def _engine(
    settings: Settings, own: RunSettings, scan: InputScan, specs: Sequence[str]
) -> Iterator[Engine]:
    """Yield what scores, its model loaded."""
    # Imported here: they import torch, and ray is an extra.
    if not own.on_ray:
        loaded = setup.load(settings, specs)  # sets what torch reads when it is imported
        from atp.run.engine.in_process import InProcess  # noqa: PLC0415

        yield InProcess(loaded, settings, scan, own.save_vectors)
        return
    from atp.run.engine.cluster import connected  # noqa: PLC0415

    with connected(own, settings.device) as places:
        with setup.uncollected():
            from atp.run.engine.on_ray import OnRay  # noqa: PLC0415
            from atp.run.engine.workers import Workers  # noqa: PLC0415

        workers = Workers(settings, scan, places, own.save_vectors)
        try:
            yield OnRay(settings, workers)
        finally:
            workers.end()


def score(
    settings: Settings,
    scan: InputScan,
    engine: Engine,
    stop: StopRequest,
    vector_type: VectorType | None = None,
) -> tuple[ExitCode, list[Path]]:
    """Score every pair on an engine, and keep its vectors; returns and raises as `run` does."""
    # Imported here: they import torch, and earlier errors need not wait for it.
    from atp.model.token_texts import TokenTexts  # noqa: PLC0415
    from atp.run.pipeline import Pipeline  # noqa: PLC0415
    from atp.run.resume import open_journal  # noqa: PLC0415
    from atp.run.writer import ResultWriter  # noqa: PLC0415
    from atp.vectors.writer import FOLDER, VectorsWriter  # noqa: PLC0415

    with open_journal(settings, scan, engine) as journal:
        writer = ResultWriter(scan, journal, len(engine.labels), settings.save_interval)
        planner = engine.planner(journal.header["facts"]["settings"]["batch_tokens"])
        baseline, shard = settings.scoring.baseline, settings.shard or WHOLE
        vectors = None
        if vector_type is not None:
            tokenizer = engine.pair_tokenizer.tokenizer
            vectors = VectorsWriter.open(
                settings.out / f"{FOLDER}{journal.header['run']}",
                journal.header,
                engine.origin,
                vector_type,
                TokenTexts(tokenizer) if settings.scoring.position == "all" else None,
            )
        return Pipeline(engine, planner, writer, stop, baseline, shard, vectors).run()
