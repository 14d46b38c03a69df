"""Runs on a Ray cluster of this machine: who their workers are, and what became of the pairs."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import psutil
import pytest
from disturbed_runs import OUT, Job, damage
from runs import events, of, without_times

from atp.errors import ExitCode

LONGEST = 300.0
"""Seconds after which a run on Ray hangs: its workers import torch anew."""


def on_ray(job: Job, address: str, workers: int = 2) -> Job:
    """Return a job that the workers of a cluster do."""
    return replace(job, arguments=(*job.arguments, f"--address={address}", f"--workers={workers}"))


def without_cluster() -> None:
    """Have a child start a cluster of its own, as if that of the tests were not there."""
    os.environ.pop("RAY_AUTH_MODE", None)


def log_of(child: forked.Child) -> list[dict[str, Any]]:
    """Return the lines that a run has logged so far."""
    return events(child.log) if child.log else []


def wait_for(child: forked.Child, event: str, count: int = 1) -> list[dict[str, Any]]:
    """Wait until a run has logged an event so often; return these lines."""
    while len(found := of(event, log_of(child))) < count:
        if child.ended(within=0.05) is not None:
            pytest.fail(f"the run ended before {event}: {child.log[-2000:]}")
        if child.seconds > LONGEST:
            pytest.fail(f"no {event} after {LONGEST:.0f} s: {child.log[-2000:]}")
    return found


def interfaces(child: forked.Child) -> set[str]:
    """Return the addresses on which a run, its cluster and its workers listen."""
    processes = psutil.Process(child.pid).children(recursive=True)
    sockets = [each for process in processes for each in process.net_connections()]
    listening = [each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN]
    return {address.removeprefix("::ffff:") for address in listening}


def kill(pid: int) -> None:
    """Kill a worker, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def wait_for_death(pids: list[int], within: float = 30.0) -> list[int]:
    """Wait until processes are gone; return those that are not."""
    end = time.monotonic() + within
    while (left := [pid for pid in pids if _lives(pid)]) and time.monotonic() < end:
        time.sleep(0.1)
    return left


def _lives(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


def shortfall(
    job: Job, ended: forked.Ended, folder: Path, before: list[bytes], again: int = 0
) -> list[str]:
    """Say what is wrong with a run on Ray that went on to its end.

    So many pairs of `before` may be computed again.
    """
    if ended.code != ExitCode.OK:
        return [f"exit code {ended.code}, not 0: {ended.err[-2000:]}"]
    wrong = damage(before, folder)
    if not ended.out.strip().endswith(".json") or len(ended.out.split()) != 1:
        wrong.append(f"standard output is {ended.out!r}")
    elif without_times(folder / OUT / Path(ended.out.strip()).name) != job.expected:
        wrong.append("the result is not that of a run in one process")
    done = of("batch.done", events(ended.err))
    if (more := sum(line["pairs"] - line["new"] for line in done)) > again:
        wrong.append(f"{more} pairs were scored that had their result")
    if of("atp.bug", events(ended.err)):
        wrong.append("atp.bug")
    return wrong


def by_worker(ended: forked.Ended) -> Counter[int]:
    """Return how many pairs each worker scored."""
    counts: Counter[int] = Counter()
    for line in of("batch.done", events(ended.err)):
        counts[line["worker"]] += line["pairs"]
    return counts
