"""A disk that refuses harms nothing that was saved; a line says so, and the next start goes on."""

from __future__ import annotations

import errno
import json
import re
import resource
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from disk import small_disk
from disturbed_runs import (
    OUT,
    Job,
    Report,
    at_each_step,
    damage,
    listed,
    pairs_in,
    saved,
    shortfall,
)
from forked import Ended
from io_steps import failing, first_of_each

from atp.errors import ExitCode

FAULTS = {
    "a full disk": failing(errno.ENOSPC),
    "a disk with room for half a write": failing(errno.ENOSPC, midway=True),
    "an I/O error": failing(errno.EIO, once=True),
}
FREE = r"\b[\d,]+ bytes are free"
NEEDED = r"it needs about [\d,]+ bytes, " + FREE


def wrong_with_the_message(ended: Ended, pattern: str = "") -> list[str]:
    """Say what is wrong with how a run told that its disk refuses; it is to match a pattern."""
    if ended.code != ExitCode.SAVE_FAILED:
        return [f"exit code {ended.code}: {ended.err[-400:]}"]
    wrong = [] if ended.out == "" else [f"stdout: {ended.out}"]
    try:
        lines = [json.loads(line) for line in ended.err.splitlines()]
    except ValueError:
        return [*wrong, f"more than log lines: {ended.err[-1000:]}"]
    errors = [line for line in lines if line["level"] == "error"]
    # That the partial result cannot be written either may be told before.
    if [line["event"] for line in errors if line["event"] != "save.failed"] != ["atp.failed"]:
        return [*wrong, f"not one error: {errors}"]
    last = lines[-1]
    if last["event"] != "atp.failed":
        return [*wrong, f"the last line is {last}"]
    told = f"{last['message']} {last['hint']}"
    if f"{OUT}/" not in told:
        wrong.append(f"no path: {told}")
    if not re.search(pattern, told):
        wrong.append(f"how much room there is, or is needed, is not told: {told}")
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize("begun", [False, True], ids=["a first start", "a start that goes on"])
@pytest.mark.parametrize("name", FAULTS)
def test_at_whatever_step_the_disk_refuses_the_saved_pairs_stand_and_the_next_start_goes_on(
    job_of: Callable[..., Job],
    tmp_path: Path,
    name: str,
    begun: bool,
    report: Report,
) -> None:
    """Of a batch that is half written, some pairs are saved; it is computed again as a whole."""

    def some(steps: Sequence[str]) -> list[int]:
        return first_of_each(steps)[list(FAULTS).index(name) :: 6 if begun else 3]

    job = job_of(8, "--save-interval=1")
    wrong: dict[str, list[str]] = {}
    tried = 0
    for step, folder, steps, ended in at_each_step(
        job, begun, FAULTS[name], tmp_path, None if report.full else some
    ):
        tried += 1
        complaints = wrong_with_the_message(ended, "" if name == "an I/O error" else FREE)
        complaints += damage(saved(steps.told), folder)
        before = saved(folder)
        complaints += shortfall(job, job.run(folder), before, folder, again=job.largest_batch)
        if complaints:
            wrong[step] = complaints
    report.figure(
        f"{name} at each step of the files, {'when resuming' if begun else 'first start'}",
        f"{tried} of {tried} reported, kept and resumed",
        f"{tried - len(wrong)} of {tried}",
    )
    assert not wrong, listed(wrong)
    assert tried > 0


def test_a_run_whose_files_may_not_grow_says_so_and_goes_on_when_they_may(
    job_of: Callable[..., Job], tmp_path: Path, report: Report
) -> None:
    """As the system itself refuses (RLIMIT_FSIZE)."""
    job = job_of(8, "--save-interval=1")
    log = 20_000  # has room, so that the run can say what is wrong
    largest = len(job.expected)
    sizes = range(log, largest, (largest - log) // 12) if report.full else [log, largest - 1000]
    wrong: dict[int, list[str]] = {}
    held = set()
    for size in sizes:
        folder = tmp_path / str(size)
        limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
        complaints = wrong_with_the_message(job.run(folder, limit), NEEDED)
        complaints += damage([], folder)
        before = saved(folder)
        held.add(len(pairs_in(before)))
        complaints += shortfall(job, job.run(folder), before, folder, again=job.largest_batch)
        if complaints:
            wrong[size] = complaints
    report.figure(
        "files that may not grow (RLIMIT_FSIZE)",
        f"{len(sizes)} of {len(sizes)} reported, kept and resumed",
        f"{len(sizes) - len(wrong)} of {len(sizes)}",
    )
    assert not wrong, listed(wrong)
    assert max(held) > min(held)


@pytest.mark.slow
def test_a_run_on_a_small_disk_says_so_and_goes_on_when_there_is_room(
    job_of: Callable[..., Job],
    tmp_path: Path,
    report: Report,
) -> None:
    job = job_of(8, "--save-interval=1")
    needed = 2 * len(job.expected)  # journal and result
    shares = [n / 12 for n in range(1, 12)] if report.full else [0.3, 0.8]
    wrong: dict[float, list[str]] = {}
    held = set()
    for share in shares:
        folder = tmp_path / f"{share:.2f}"
        with small_disk(folder / OUT, int(share * needed)) as resize:
            complaints = wrong_with_the_message(job.run(folder), NEEDED)
            complaints += damage([], folder)
            before = saved(folder)
            held.add(len(pairs_in(before)))
            resize(10 * needed)
            complaints += shortfall(job, job.run(folder), before, folder, again=job.largest_batch)
        if complaints:
            wrong[share] = complaints
    report.figure(
        "a real disk that is too small",
        f"{len(shares)} of {len(shares)} reported, kept and resumed",
        f"{len(shares) - len(wrong)} of {len(shares)}",
    )
    assert not wrong, listed(wrong)
    assert max(held) > min(held)
