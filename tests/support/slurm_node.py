"""Slurm on this machine alone: a controller, one node with two made-up GPUs, and their munge."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
MISSING = [name for name in DAEMONS if not shutil.which(name, path=PATH)]
AVAILABLE = not MISSING and os.geteuid() == 0
SLOWEST_JOB = 300.0
"""Seconds."""

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthInfo=socket={folder}/munge.sock
SlurmctldPort={port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=6000 Gres=gpu:2
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    return port


@contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """Start Slurm with its files in a folder; yield the environment of its commands."""
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    for name in ("gpu0", "gpu1"):
        (folder / name).touch()
    ports = {"port": free_port(), "node_port": free_port()}
    filled = CONFIGURATION.format(host=host, folder=folder, cpus=os.cpu_count(), **ports)
    (folder / "slurm.conf").write_text(filled)
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-1]\n")
    (folder / "cgroup.conf").write_text("CgroupAutomount=yes\n")
    (folder / "key").write_bytes(os.urandom(128))
    (folder / "key").chmod(0o400)
    environment = os.environ | {"PATH": PATH, "SLURM_CONF": f"{folder}/slurm.conf"}
    munge = {"key-file": "key", "socket": "munge.sock", "pid-file": "munged.pid"}
    options = [f"--{name}={folder}/{file}" for name, file in munge.items()]
    options += [f"--log-file={folder}/munged.log", f"--seed-file={folder}/seed", "--force"]
    try:
        subprocess.run(["munged", *options], env=environment, check=True)
        subprocess.run(["slurmctld"], env=environment, check=True)
        subprocess.run(["slurmd", "-N", host], env=environment, check=True)
        yield environment
    finally:
        for name in reversed(DAEMONS):
            with suppress(FileNotFoundError, ProcessLookupError):
                os.kill(int((folder / f"{name}.pid").read_text()), signal.SIGTERM)


def wait_for(job: str, environment: dict[str, str]) -> str:
    """Wait for the end of a job; return its state."""
    limit = time.monotonic() + SLOWEST_JOB
    state = "PENDING"
    while time.monotonic() < limit and state in {"PENDING", "RUNNING", "COMPLETING"}:
        time.sleep(1)
        shown = subprocess.run(
            ["scontrol", "--oneliner", "show", "job", job],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        state = shown.partition("JobState=")[2].partition(" ")[0]
    return state
