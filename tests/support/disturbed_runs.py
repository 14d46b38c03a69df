"""Runs that tests disturb: their result without a fault, and the conditions after a fault."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import forked
from forked import Ended, nothing
from io_steps import Fault, Steps, as_it_is, killed_midway
from runs import analyses, read, without_times

from atp.errors import ExitCode
from atp.scoring import scorer

OUT = "out"
"""The output folder, in whatever folder a run is started: so the bytes of the result are equal."""


@dataclass(frozen=True)
class Report:
    """How many faults to try, and the lines of the table at the end of `make test-faults`."""

    full: bool
    """In the full counts, not in the few of the other test targets."""
    lines: list[tuple[str, str, str]]
    """What, target, found."""

    def figure(self, what: str, target: str, found: str) -> None:
        """Add a line."""
        self.lines.append((what, target, found))


@dataclass(frozen=True)
class Job:
    """One command, and its result when nothing disturbs it."""

    arguments: tuple[str, ...]
    pairs: int
    expected: bytes = b""
    """The result, times apart."""
    seconds: float = 0.0
    analyses: tuple[dict[str, Any], ...] = ()
    """Those of the result, in its order."""
    largest_batch: int = 0
    steps: tuple[str, ...] = ()
    """By which the files come about, as in io_steps.py."""

    def run(
        self,
        folder: Path,
        prepare: Callable[[], None] = nothing,
        kill_after: float | None = None,
    ) -> Ended:
        """Start the command in `folder`; how many pairs it computes is in the file `computed`."""
        return forked.run(self.arguments, folder, self.counted(folder, prepare), kill_after)

    def counted(self, folder: Path, prepare: Callable[[], None] = nothing) -> Callable[[], None]:
        """Return what prepares a child in which the pairs of every pass are counted."""

        def count_pairs() -> None:
            prepare()
            proper = scorer.capture
            told = os.open(folder / "computed", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)

            def counting(model: Any, batch: Any, names: Any, **how: Any) -> Any:
                os.write(told, f"{len(batch)}\n".encode())
                return proper(model, batch, names, **how)

            scorer.capture = counting

        return count_pairs


def computed(folder: Path) -> int:
    """Return how many pairs the last run in `folder` has put through the model."""
    return sum(batches(folder))


def batches(folder: Path) -> list[int]:
    """Return the pairs of every pass of the last run in `folder`."""
    return [int(line) for line in (folder / "computed").read_text(encoding="utf-8").split()]


def saved(folder: Path) -> list[bytes]:
    """Return the whole lines of the journal below its header; of several journals, of all."""
    found = []
    for path in sorted((folder / OUT).glob("*.journal.jsonl")):
        lines = path.read_bytes().splitlines(keepends=True)[1:]
        found += [line for line in lines if line.endswith(b"\n")]
    return found


def is_torn(folder: Path) -> bool:
    """Say whether the kill has cut the write of a batch to the journal."""
    journals = (folder / OUT).glob("*.journal.jsonl")
    return any(not path.read_bytes().endswith(b"\n") for path in journals)


def pairs_in(lines: list[bytes]) -> set[tuple[int, int]]:
    """Return the pairs of which a journal's lines tell."""
    entries = map(json.loads, lines)
    return {tuple(entry["pair"]) for entry in entries if "pair" in entry}


def damage(before: list[bytes], folder: Path) -> list[str]:
    """Say what is wrong with the files that a run left, `before` being the lines saved earlier."""
    wrong = []
    if saved(folder)[: len(before)] != before:
        wrong.append("the journal has lost or changed lines that were saved before")
    for path in (folder / OUT).glob("*.json"):
        try:
            json.loads(path.read_bytes())
        except ValueError:
            wrong.append(f"{path.name} is no whole JSON file")
    return wrong


def shortfall(
    job: Job, ended: Ended, before: list[bytes], folder: Path, again: int = 0
) -> list[str]:
    """Say what is wrong with a run that went on to its end, `before` being saved when it began.

    Args:
        job: what was run.
        ended: how.
        before: the journal's lines when it began.
        folder: where.
        again: how many pairs of `before` may be computed again.
    """
    if ended.code != ExitCode.OK:
        return [f"exit code {ended.code}, not 0: {ended.err[-400:]}"]
    wrong = damage(before, folder)
    result = Path(ended.out.strip()).name
    if without_times(folder / OUT / result) != job.expected:
        wrong.append("the result is not that of an undisturbed run")
    left = {path.name for path in (folder / OUT).iterdir()}
    if left != expected_files(result):
        wrong.append(f"other files than expected are there: {sorted(left)}")
    known, more = len(pairs_in(before)), computed(folder)
    if not job.pairs <= known + more <= job.pairs + again:
        wrong.append(f"{known} pairs of {job.pairs} were saved, and {more} computed after that")
    if (lines := len(pairs_in(saved(folder)))) != job.pairs:
        wrong.append(f"the journal holds {lines} of {job.pairs} pairs")
    return wrong


def expected_files(result: str) -> set[str]:
    """Return the names of all files of a finished run."""
    return {".atp.lock", result, result.removesuffix(".json") + ".journal.jsonl"}


def was_killed(ended: Ended) -> bool:
    """Say whether SIGKILL ended a run."""
    return ended.code == -signal.SIGKILL


def begin(job: Job, folder: Path) -> None:
    """Leave what a run leaves that was killed in the middle of writing a batch to its journal."""
    writes = [
        number
        for number, step in enumerate(job.steps, start=1)
        if step.startswith("write ") and step.endswith(".journal.jsonl")
    ]
    steps = Steps(folder / OUT, writes[len(writes) // 2], killed_midway, folder / "begun")
    assert was_killed(job.run(folder, steps.install))
    assert saved(folder)


def at_each_step(
    job: Job,
    begun: bool,
    fault: Fault,
    folder: Path,
    chosen: Callable[[Sequence[str]], Sequence[int]] | None,
) -> Iterator[tuple[str, Path, Steps, Ended]]:
    """Run a job again and again, a fault happening at another step of its files each time.

    Args:
        job: what to run.
        begun: whether it goes on with what `begin` leaves.
        fault: what happens.
        folder: takes a folder for each run.
        chosen: from the steps of a run without a fault to the numbers to try; None: all, until a
            run comes to its end before the fault.

    Yields:
        The number and the step; the run's folder; what was reached; how the run ended.
    """
    start = folder / "start"
    start.mkdir()
    steps: Sequence[str] = job.steps
    if begun:
        begin(job, start)
        shutil.copytree(start, folder / "whole")
        trace = Steps(folder / "whole" / OUT, 1, as_it_is, folder / "whole" / "told")
        job.run(folder / "whole", trace.install)
        steps = trace.reached
    for number in chosen(steps) if chosen else count(1):
        place = folder / str(number)
        shutil.copytree(start, place)
        faulty = Steps(place / OUT, number, fault, place / "told")
        ended = job.run(place, faulty.install)
        if not faulty.reached:
            assert ended.code == ExitCode.OK
            return
        yield f"{number}: {faulty.reached[0]}", place, faulty, ended


def undisturbed(arguments: list[str], pairs: int, folder: Path) -> Job:
    """Return the job of a command, which is run here as it will be when nothing disturbs it."""
    job = Job(tuple(arguments), pairs)
    steps = Steps(folder / OUT, 1, as_it_is, folder / "told")
    ended = job.run(folder, steps.install)
    assert ended.code == ExitCode.OK, ended.err
    assert computed(folder) == pairs
    result = folder / ended.out.strip()
    return replace(
        job,
        expected=without_times(result),
        analyses=tuple(analyses(read(result))),
        seconds=ended.seconds,
        largest_batch=max(batches(folder)),
        steps=tuple(steps.reached),
    )


def listed(wrong: Mapping[Any, list[str]]) -> str:
    """Return what is wrong, and where, one fault a line."""
    return "\n".join(f"{where}: {what}" for where, faults in wrong.items() for what in faults)
