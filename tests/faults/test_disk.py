"""A disk that refuses harms nothing that was saved; one line says so, and the next start goes on."""

from __future__ import annotations

import errno
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from forked import Ended
from io_steps import Steps, failing, numbers
from jobs import OUT, Job, damage, pairs_in, saved, shortfall

from atp.errors import ExitCode

FAULTS = {
    "a full disk": failing(errno.ENOSPC),
    "a disk with room for half a write": failing(errno.ENOSPC, midway=True),
    "an I/O error": failing(errno.EIO, once=True),
}
BYTES = re.compile(r"\b[\d,.]+ ?(bytes|[KMGT]i?B)\b")


def wrong_with_the_message(ended: Ended, *, full: bool) -> list[str]:
    """Say what is wrong with how a run told that its disk refuses; `full`: for want of room."""
    if ended.code != ExitCode.SAVE_FAILED:
        return [f"exit code {ended.code}: {ended.err[-400:]}"]
    wrong = [] if ended.out == "" else [f"stdout: {ended.out}"]
    try:
        lines = [json.loads(line) for line in ended.err.splitlines()]
    except ValueError:
        return [*wrong, f"more than log lines: {ended.err[-1000:]}"]
    errors = [line for line in lines if line["level"] == "error"]
    if len(errors) != 1 or errors[0] != lines[-1]:
        return [*wrong, f"not one error, at the end: {errors}"]
    told = f"{errors[0]['message']} {errors[0]['hint']}"
    if f"{OUT}/" not in told:
        wrong.append(f"no path: {told}")
    if full and not BYTES.search(told):
        wrong.append(f"no bytes: {told}")
    return wrong


@pytest.mark.parametrize("name", FAULTS)
def test_at_whatever_step_the_disk_refuses_the_saved_pairs_stand_and_the_next_start_goes_on(
    job_of: Callable[..., Job],
    tmp_path: Path,
    name: str,
    full: bool,
    figures: Callable[[str, str, str], None],
) -> None:
    job = job_of(8, "--save-interval=1")
    wrong: dict[str, list[str]] = {}
    sample = numbers(job.steps)[list(FAULTS).index(name) :: len(FAULTS)]
    tried = 0
    for number in count(1) if full else sample:
        folder = tmp_path / str(number)
        steps = Steps(folder / OUT, number, FAULTS[name], folder / "told")
        ended = job.run(folder, steps.install)
        if not steps.reached:
            assert ended.code == ExitCode.OK
            break
        tried += 1
        complaints = wrong_with_the_message(ended, full="room" in name or "full" in name)
        complaints += damage(saved(steps.told), folder)
        before = saved(folder)
        # Of a batch that is half written, some pairs are saved; it is computed again as a whole.
        complaints += shortfall(job, job.run(folder), before, folder, again=job.largest_batch)
        if complaints:
            wrong[f"{number}: {steps.reached[0]}"] = complaints
    figures(
        f"{name} at each step of the files",
        f"{tried} of {tried} told, kept and resumed",
        f"{tried - len(wrong)} of {tried}",
    )
    assert wrong == {}
    assert tried > 1


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Callable[[int], None]]:
    """Have a disk of `size` bytes at `place`; yields a function that gives it another size."""

    def mount(*arguments: str) -> None:
        command = ["mount", *arguments, str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"this user cannot mount a small disk: {done.stderr.strip()}")

    place.mkdir(parents=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")
    try:
        yield lambda larger: mount("-o", f"remount,size={larger}")
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_run_on_a_small_disk_says_so_and_goes_on_when_there_is_room(
    job_of: Callable[..., Job],
    tmp_path: Path,
    full: bool,
    figures: Callable[[str, str, str], None],
) -> None:
    job = job_of(8, "--save-interval=1")
    needed = 2 * len(job.expected)  # journal and result
    shares = [n / 12 for n in range(1, 12)] if full else [0.3, 0.8]
    wrong: dict[float, list[str]] = {}
    held = set()
    for share in shares:
        folder = tmp_path / f"{share:.2f}"
        with small_disk(folder / OUT, int(share * needed)) as resize:
            complaints = wrong_with_the_message(job.run(folder), full=True)
            complaints += damage([], folder)
            before = saved(folder)
            held.add(len(pairs_in(before)))
            resize(10 * needed)
            complaints += shortfall(job, job.run(folder), before, folder, again=job.largest_batch)
        if complaints:
            wrong[share] = complaints
    figures(
        "a real disk that is too small",
        f"{len(shares)} of {len(shares)} told, kept and resumed",
        f"{len(shares) - len(wrong)} of {len(shares)}",
    )
    assert wrong == {}
    assert max(held) > min(held)
