"""The crontab is one that cron reads, and starts what the systemd unit starts."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from deployed import DEPLOY, Container, docker_run

CRONTAB = (DEPLOY / "cron" / "atp.crontab").read_text(encoding="utf-8")
LINES = [line for line in CRONTAB.splitlines() if line and not line.startswith("#")]
VARIABLES = dict(
    re.match(r"(\w+)=(.*)", line).groups() for line in LINES if re.match(r"\w+=", line)
)
JOBS = [line for line in LINES if not re.match(r"\w+=", line)]
RANGES = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]
"""Minute, hour, day of the month, month, day of the week."""


def schedule(line: str) -> tuple[str, str, str]:
    """Return when, user and command of a job; ValueError for a time that cron would not read."""
    if line.startswith("@"):
        when, user, command = line.split(maxsplit=2)
        if when not in {"@reboot", "@daily", "@midnight", "@hourly", "@weekly", "@monthly"}:
            raise ValueError(when)
        return when, user, command
    *fields, user, command = line.split(maxsplit=6)
    for text, (low, high) in zip(fields, RANGES, strict=True):
        if text != "*" and not (text.isdigit() and low <= int(text) <= high):
            raise ValueError(text)
    return " ".join(fields), user, command


def container() -> Container:
    program, verb, *rest = VARIABLES["RUN"].split()
    assert [program, verb] == ["docker", "run"]
    return docker_run(rest)


def test_it_runs_every_night_and_after_a_boot() -> None:
    assert [schedule(job)[:2] for job in JOBS] == [("0 2 * * *", "root"), ("@reboot", "root")]


@pytest.mark.parametrize("line", ["0 25 * * * root x", "0 2 * * root x", "@nightly root x"])
def test_a_time_that_cron_would_not_read_is_found_out(line: str) -> None:
    with pytest.raises(ValueError, match=r"25|zip|nightly"):
        schedule(line)


def test_cron_reads_every_line_of_it() -> None:
    assert CRONTAB.endswith("\n")  # cron drops a last line without an end
    assert "%" not in "".join(JOBS)  # to cron the end of a line
    assert max(map(len, LINES)) < 1000  # as much as cron reads


def test_it_starts_the_container_of_the_systemd_unit() -> None:
    unit = (DEPLOY / "systemd" / "atp.service").read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = re.findall(r"^ExecStart=/usr/bin/docker run (.*)$", unit, flags=re.MULTILINE)
    assert container() == docker_run(line.split())


def test_a_job_passes_every_argument_to_docker_and_logs_output_and_exit_code(
    tmp_path: Path,
) -> None:
    for name, script in {
        "docker": 'echo "$#:$*"; echo an event >&2; exit 3',
        "sleep": "",
        "logger": 'echo "logger $*"; cat',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environment = VARIABLES | {"PATH": f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin"}
    night, boot = (
        subprocess.run(
            [VARIABLES["SHELL"], "-c", schedule(job)[2]],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for job in JOBS
    )
    arguments = VARIABLES["RUN"].split()[1:]
    run = [f"{len(arguments)}:{' '.join(arguments)}", "an event", "atp: exit code 3"]
    assert night.splitlines() == ["logger --tag atp --size 16KiB", *run]
    removal = ["3:rm --force atp", "an event"]
    assert boot.splitlines() == ["logger --tag atp --size 16KiB", *removal, *run]
