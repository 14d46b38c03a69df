"""The command `atp` in a child process: a fork of the tests, or a new process.

A new process takes seconds to import torch, TransformerLens and SAELens. A fork has them already.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

# All that a run imports late, so that no child has to.
import atp
import atp.run.batch_runner
import atp.run.command
import atp.run.pipeline
import atp.scoring.scorer
from atp.cli.main import main

LONGEST = 120.0
"""Seconds after which a child that was to end by itself hangs."""
DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""
NO_EXIT_CODE = 99
"""The exit code of a child in which an exception escaped from `main`."""


@dataclass(frozen=True)
class Ended:
    """How a child ended, and what it wrote."""

    code: int
    """Its exit code; -9 when SIGKILL ended it."""
    out: str
    err: str
    seconds: float


@dataclass(frozen=True)
class Child:
    """A command that is running in a child."""

    pid: int
    folder: Path
    began: float
    began_at: float
    """The time of day."""

    @property
    def seconds(self) -> float:
        """How long ago it began."""
        return time.monotonic() - self.began

    @property
    def log(self) -> str:
        """Its whole log lines so far."""
        text = (self.folder / "stderr").read_text(encoding="utf-8")
        return text[: text.rfind("\n") + 1]

    @property
    def resident_bytes(self) -> int:
        """The memory it holds, shared pages included; 0 when it has ended."""
        pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="utf-8").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def send(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def ended(self, within: float = LONGEST) -> Ended | None:
        """Wait for its end; None when it has not come within some seconds."""
        handle = os.pidfd_open(self.pid)
        try:
            if not select.select([handle], [], [], max(0.0, within))[0]:
                return None
        finally:
            os.close(handle)
        _, status = os.waitpid(self.pid, 0)
        return Ended(
            os.waitstatus_to_exitcode(status),
            (self.folder / "stdout").read_text(encoding="utf-8"),
            (self.folder / "stderr").read_text(encoding="utf-8"),
            self.seconds,
        )


def nothing() -> None:
    """Prepare nothing."""


@contextmanager
def started(
    arguments: Sequence[str],
    folder: Path,
    prepare: Callable[[], None] = nothing,
    *,
    new: bool = False,
) -> Iterator[Child]:
    """Start `atp` with `folder` as its working directory; it is gone when the context ends.

    Args:
        arguments: of the command.
        folder: also takes what it writes to stdout and stderr.
        prepare: called in a fork first; what it patches is patched in the child alone.
        new: start the interpreter anew, as a user does.
    """
    folder.mkdir(exist_ok=True)
    ready, begins = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_the_command(arguments, folder, _anew(arguments) if new else prepare, begins)
    os.close(begins)
    os.read(ready, 1)
    os.close(ready)
    child = Child(pid, folder, time.monotonic(), time.time())
    try:
        yield child
    finally:
        try:
            child.send(signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass  # it has ended, as it should have


def run(
    arguments: Sequence[str],
    folder: Path,
    prepare: Callable[[], None] = nothing,
    kill_after: float | None = None,
) -> Ended:
    """Run `atp` to its end, or for `kill_after` seconds, when SIGKILL ends it."""
    with started(arguments, folder, prepare) as child:
        ended = child.ended(LONGEST if kill_after is None else kill_after)
        if ended is None:
            if kill_after is None:
                pytest.fail(f"{' '.join(arguments)} has not ended after {LONGEST:.0f} s")
            child.send(signal.SIGKILL)
            ended = child.ended()
    assert ended is not None
    return ended


def _anew(arguments: Sequence[str]) -> Callable[[], None]:
    """Return what makes a child the command as a user starts it."""
    python = [sys.executable, "-m", "atp", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(atp.__file__).parent.parent)}
    return lambda: os.execve(python[0], python, environment)  # noqa: S606  (no shell is needed)


def _be_the_command(
    arguments: Sequence[str], folder: Path, prepare: Callable[[], None], begins: int
) -> NoReturn:
    """Be a process that runs `atp` and nothing else; says through the pipe `begins` when."""
    code = NO_EXIT_CODE
    try:
        os.setsid()  # Ctrl-C of whoever runs the tests is no signal to this run
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)  # however the tests end
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        gc.freeze()  # a collection does not copy what the parent has made
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # or it warns that it was forked
        os.chdir(folder)
        for number, name in ((1, "stdout"), (2, "stderr")):
            file = os.open(name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
            os.dup2(file, number)
        sys.stdout, sys.stderr = (
            open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  (as long as it lives)
            for number in (1, 2)
        )
        prepare()
        os.write(begins, b".")
        code = int(main(arguments))
    except BaseException:  # noqa: BLE001  (the parent's tests must not go on in the child)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
