"""Measures how many pairs the driver of a run can serve, and what a second worker brings.

Usage:
  workers.py [--only=NAME] [--counts=LIST] [--pairs=N] [--rounds=N]
  workers.py --help

Options:
  --only=NAME    driver or workers; by default both.
  --counts=LIST  Pairs of each run [default: 1000,10000,100000].
  --pairs=N      Pairs of each run [default: 500].
  --rounds=N     [default: 3]

`driver`: the driver reads, tokenises, plans, journals and writes the result file; the scores are
those of the demo, 50 features a pair, and come at once. `workers` alternates runs with one worker
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
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from shutil import rmtree
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import demo
import torch
from docopt import docopt

from atp.dataset.input_scan import scan_input
from atp.dataset.journal import SUFFIX, Journal
from atp.model.device_memory import figures
from atp.model.outline import outline
from atp.run.command import score
from atp.run.setup import pair_tokenizer_for
from atp.run.tasks import Planner, Scored
from atp.runtime.log import configure
from atp.runtime.signals import StopRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from atp.config.settings import Settings
    from atp.dataset.journal import Analysis
    from atp.run.tasks import Task

BATCH_TOKENS = 2048
PAIRS_OF_DEMO = 72


@dataclass
class Ready:
    """An engine whose results are there at once."""

    settings: Settings
    facts: dict[str, Any]
    analyses: Sequence[list[Analysis]]
    labels: Sequence[str] = ("demo",)

    def __post_init__(self) -> None:
        n_ctx = outline(str(demo.MODEL), None, torch.float32).n_ctx
        self.pair_tokenizer = pair_tokenizer_for(self.settings, n_ctx)

    def planner(self, batch_tokens: int) -> Planner:
        """Return that of a run."""
        return Planner("last", batch_tokens, whole_texts=False, whole_windows=False)

    def results(self, tasks: Iterator[Task], stop: StopRequest) -> Iterator[Scored]:
        """Yield every task with analyses of the demo."""
        del stop
        endless = cycle(self.analyses)
        for task in tasks:
            self.task = task
            yield Scored(task, list(islice(endless, len(task.keys))), time.monotonic())

    def take_means(self, prompts: Iterable[tuple[int, ...]], stop: StopRequest) -> None:
        """Take none."""

    def state(self) -> str:
        """Return that of a run without workers."""
        return ""

    def end(self) -> None:
        """Note the time: everything is in the journal."""
        self.ended, self.cpu = time.perf_counter(), time.process_time()


def journalled(journal: Path) -> tuple[dict[str, Any], list[list[Analysis]]]:
    """Return the facts of a run, and the analyses of its scored pairs."""
    with Journal.reopen(journal) as done:
        analyses = [each for each in done.all_analyses() if "top_features" in each[0]]
        return done.header["facts"], analyses


def drive(source: Path, out: Path, journal: Path) -> dict[str, float]:
    """Run the driver once; return its pairs, seconds and peak memory in bytes."""
    configure(run_id="workers", log_format="json", quiet=True)
    out.mkdir()
    settings = demo.settings(input=source, out=out, batch_tokens=BATCH_TOKENS)
    scan = scan_input(source)
    engine = Ready(settings, *journalled(journal))
    began, before = time.perf_counter(), time.process_time()
    score(settings, scan, engine, StopRequest())
    return {
        "pairs": scan.pairs,
        "loop": engine.ended - began,
        "whole": time.perf_counter() - began,
        "cpu": engine.cpu - before,
        "peak": figures(torch.device("cpu"))["peak_bytes"],
        "there": len(pickle.dumps(engine.task)) / len(engine.task.keys),
        "back": len(pickle.dumps(engine.analyses)) / len(engine.analyses),
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
    journal = next((folder / "demo").glob(f"*{SUFFIX}"))
    print(
        "| pairs | pairs/s journalled | pairs/s to the end | CPU us a pair | peak MiB | KB a pair |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for count in counts:
        source = folder / f"{count}.json"
        demo.write_copies(source, max(1, round(count / PAIRS_OF_DEMO)))
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            found = process.submit(drive, source, folder / str(count), journal).result()
        pairs = found["pairs"]
        print(
            f"| {pairs:,.0f} | {pairs / found['loop']:,.0f} | {pairs / found['whole']:,.0f} "
            f"| {1e6 * found['cpu'] / pairs:.0f} | {found['peak'] / 2**20:,.0f} "
            f"| {found['journal'] / pairs / 1e3:.1f} |",
            flush=True,
        )
        sent = f"{found['there'] / 1e3:.1f} KB to a worker, {found['back'] / 1e3:.1f} KB back"
        source.unlink()
        rmtree(folder / str(count))
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
