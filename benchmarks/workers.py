"""Measures how many pairs the driver of a run can serve, and what a second worker brings.

Usage:
  workers.py [--only=NAME] [--counts=LIST] [--pairs=N] [--rounds=N]
  workers.py --help

Options:
  --only=NAME    driver or workers; by default both.
  --counts=LIST  Pairs of each run of the driver [default: 1000,10000,100000].
  --pairs=N      Pairs of each run of workers [default: 500].
  --rounds=N     [default: 5]

`driver`: the driver reads, tokenises, plans, journals and writes the result file; the scores are
those of the demo, 50 features a pair, and come at once: in this process, and from two workers on
Ray. `workers` alternates runs with one worker
and with two, of one thread each, timed from when all are ready. Inputs are the demo's questions,
with their words in ever other orders. Each run is a process of its own.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle, islice, product
from multiprocessing import get_context
from pathlib import Path
from shutil import rmtree
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import demo
import ray
import torch
from docopt import docopt

from atp.config.run import RunSettings
from atp.dataset.input_scan import scan_input
from atp.dataset.journal import SUFFIX, Journal
from atp.model.device_memory import figures
from atp.model.outline import outline
from atp.run.command import score
from atp.run.engine import workers as engine_workers
from atp.run.engine.cluster import connected
from atp.run.engine.on_ray import OnRay
from atp.run.engine.worker import Ready, Worker
from atp.run.setup import pair_tokenizer_for, uncollected
from atp.run.tasks import Planner, Scored
from atp.runtime.log import configure
from atp.runtime.signals import StopRequest
from atp.vectors.origin import Origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from atp.config.settings import Settings
    from atp.dataset.input_scan import InputScan
    from atp.dataset.journal import Analysis
    from atp.run.engine.worker import Event
    from atp.run.tasks import Engine, Task

BATCH_TOKENS = 2048
PAIRS_OF_DEMO = 72


@dataclass
class AtOnce:
    """An engine whose results are there at once."""

    settings: Settings
    facts: dict[str, Any]
    analyses: Sequence[list[Analysis]]
    labels: Sequence[str] = ("demo",)

    def __post_init__(self) -> None:
        n_ctx = outline(str(demo.MODEL), None, torch.float32).n_ctx
        self.pair_tokenizer = pair_tokenizer_for(self.settings, n_ctx)
        self.endless = cycle(self.analyses)

    def planner(self, batch_tokens: int) -> Planner:
        """Return that of a run."""
        return Planner("last", batch_tokens, whole_texts=False, whole_windows=False)

    def results(self, tasks: Iterator[Task], stop: StopRequest) -> Iterator[Scored]:
        """Yield every task with analyses of the demo."""
        del stop
        for task in tasks:
            self.task = task
            yield Scored(task, self.score(task)[0], time.monotonic())

    def score(self, task: Task) -> tuple[list[list[Analysis]], list[Any]]:
        """Return analyses of the demo, as an engine in one process does."""
        return list(islice(self.endless, len(task.keys))), []

    def take_means(self, prompts: Iterable[tuple[int, ...]], stop: StopRequest) -> None:
        """Take none."""

    def state(self) -> str:
        """Return that of a run without workers."""
        return ""

    def end(self) -> None:
        """Do nothing."""


def ready_workers(engine: AtOnce) -> type[Worker]:
    """Return the class of workers on Ray that answer at once, as an engine does here."""

    class Instant(Worker):
        def load(self) -> tuple[Ready, list[Event]]:
            n_ctx, planner = engine.pair_tokenizer.n_ctx, engine.planner(BATCH_TOKENS)
            origin = Origin({}, (), uses_rms_norm=True, n_layers=demo.N_LAYERS)
            return Ready(engine.facts, engine.labels, origin, n_ctx, planner, "here", 0), []

        def _loaded(self, batch_tokens: int | None = None) -> AtOnce:
            del batch_tokens
            return engine

    return Instant


@contextmanager
def engine_of(ready: AtOnce, scan: InputScan, *, on_ray: bool) -> Iterator[Engine]:
    """Yield the engine itself, or one on Ray whose workers do as it does."""
    if not on_ray:
        yield ready
        return
    with connected(RunSettings(workers=2), "cpu") as places:
        ray.cloudpickle.register_pickle_by_value(sys.modules[AtOnce.__module__])
        vars(engine_workers)["Worker"] = ready_workers(ready)
        every = engine_workers.Workers(ready.settings, scan, places)
        yield OnRay(ready.settings, every)


def journalled(journal: Path) -> tuple[dict[str, Any], list[list[Analysis]]]:
    """Return the facts of a run, and the analyses of its scored pairs."""
    with Journal.reopen(journal) as done:
        analyses = [each for each in done.all_analyses() if "top_features" in each[0]]
        return done.header["facts"], analyses


def drive(source: Path, out: Path, journal: Path, *, on_ray: bool) -> dict[str, float]:
    """Run the driver once; return its pairs, seconds and peak memory in bytes."""
    configure(run_id="workers", log_format="json", quiet=True)
    out.mkdir()
    settings = demo.settings(input=source, out=out, batch_tokens=BATCH_TOKENS)
    scan = scan_input(source)
    with uncollected():  # as a run loads its model
        ready = AtOnce(settings, *journalled(journal))
    ended: list[tuple[float, float]] = []
    with engine_of(ready, scan, on_ray=on_ray) as engine:
        end = engine.end

        def noted() -> None:
            ended.append((time.perf_counter(), time.process_time()))
            end()

        engine.end = noted  # all is in the journal
        began, before = time.perf_counter(), time.process_time()
        score(settings, scan, engine, StopRequest())
        whole = time.perf_counter() - began
    return {
        "pairs": scan.pairs,
        "loop": ended[0][0] - began,
        "whole": whole,
        "cpu": ended[0][1] - before,
        "peak": figures(torch.device("cpu"))["peak_bytes"],
        "there": 0 if on_ray else len(pickle.dumps(ready.task)) / len(ready.task.keys),
        "back": len(pickle.dumps(ready.analyses)) / len(ready.analyses),
        "journal": next(out.glob(f"*{SUFFIX}")).stat().st_size,
    }


def atp_run(source: Path, out: Path, *options: str) -> list[dict[str, Any]]:
    """Run atp in a process of its own, with one thread; return the lines of its log."""
    command = [sys.executable, "-m", "atp", "run", source, f"--out={out}", "--chat-template"]
    command += [f"--model={demo.MODEL}", f"--sae={demo.SAE}", "--device=cpu", *options]
    command += [f"--batch-tokens={BATCH_TOKENS}", "--log-format=json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith(b"{")]
    if done.returncode:
        sys.exit(str(lines[-1]))
    return lines


def rate(lines: Sequence[dict[str, Any]]) -> float:
    """Return the pairs a second from when all workers were ready to the last batch."""
    began = max(_time(line) for line in lines if line["event"] == "worker.ready")
    batches = [line for line in lines if line["event"] == "batch.done" and _time(line) > began]
    return sum(line["new"] for line in batches) / (_time(batches[-1]) - began)


def _time(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()


def driver(counts: Sequence[int], folder: Path) -> None:
    """Print the rate and the memory of the driver alone, over some numbers of pairs."""
    atp_run(demo.INPUT, folder / "demo")
    journal, sent = next((folder / "demo").glob(f"*{SUFFIX}")), ""
    print(
        "| engine | pairs | pairs/s journalled | pairs/s to the end | CPU us a pair | peak MiB "
        "| KB a pair |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for count, on_ray in product(counts, (False, True)):
        source, out = folder / f"{count}.json", folder / f"{count}-{on_ray}"
        if not on_ray:
            demo.write_copies(source, max(1, round(count / PAIRS_OF_DEMO)))
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            found = process.submit(drive, source, out, journal, on_ray=on_ray).result()
        pairs = found["pairs"]
        print(
            f"| {'Ray' if on_ray else 'process'} | {pairs:,.0f} | {pairs / found['loop']:,.0f} "
            f"| {pairs / found['whole']:,.0f} | {1e6 * found['cpu'] / pairs:.0f} "
            f"| {found['peak'] / 2**20:,.0f} | {found['journal'] / pairs / 1e3:.1f} |",
            flush=True,
        )
        sent = (
            sent or f"{found['there'] / 1e3:.1f} KB to a worker, {found['back'] / 1e3:.1f} KB back"
        )
        rmtree(out)
    print(f"\nA pair: {sent}")


def workers(pairs: int, rounds: int, folder: Path) -> None:
    """Print the rates with one worker and with two, and the median of their ratios."""
    source = folder / "pairs.json"
    demo.write_copies(source, -(-pairs // PAIRS_OF_DEMO))
    print(
        "| round | 1 worker, pairs/s | 2 workers, pairs/s | ratio |\n| ---: | ---: | ---: | ---: |"
    )
    ratios = []
    for number in range(rounds):
        one, two = (
            rate(
                atp_run(
                    source, folder / f"{number}-{count}", f"--workers={count}", f"--limit={pairs}"
                )
            )
            for count in (1, 2)
        )
        ratios.append(two / one)
        print(f"| {number + 1} | {one:.2f} | {two:.2f} | {ratios[-1]:.2f} |", flush=True)
    print(f"\nmedian ratio: {median(ratios):.2f}")


def main() -> None:
    """Print a table."""
    arguments = docopt(__doc__)
    with TemporaryDirectory() as name:
        if arguments["--only"] != "workers":
            driver([int(count) for count in arguments["--counts"].split(",")], Path(name))
        if arguments["--only"] != "driver":
            workers(int(arguments["--pairs"]), int(arguments["--rounds"]), Path(name))


if __name__ == "__main__":
    main()
