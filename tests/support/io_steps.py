"""Counts the steps in which a process changes files below a folder; any step can fail or kill.

A step is the creation of a file, a write, a truncation, an fsync or a rename, as atp calls it in
Python. The patches are installed in a forked child and stay until it ends.
"""

from __future__ import annotations

import builtins
import inspect
import io
import math
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atp.run import writer

Act = Callable[[], Any]


@dataclass
class Steps:
    """Counts the steps below `folder`; from number `at` on, `fault` is what happens instead.

    The folder `told` takes what the parent is to know: in `steps` those that were reached, one a
    line (kind, bytes, file), and a copy of `folder` as it stood when the first of them came.
    """

    folder: Path
    at: int
    fault: Fault
    told: Path
    count: int = 0

    def install(self) -> None:
        """Have every later step of this process counted."""
        writer.SAVE_SHARE = math.inf  # no pause after a slow fsync: the same steps in every run
        self.folder = Path(os.path.realpath(self.folder))
        self.told.mkdir(parents=True)
        self._told = os.open(self.told / "steps", os.O_CREAT | os.O_WRONLY, 0o600)
        proper_write, proper_fsync, proper_replace = os.write, os.fsync, os.replace

        def write(number: int, data: bytes) -> int:
            half = len(data) // 2
            return self.step(
                "write",
                _path_of(number),
                lambda: proper_write(number, data),
                lambda: proper_write(number, data[:half]),
                len(data),
            )

        def fsync(file: Any) -> None:
            number = file if isinstance(file, int) else file.fileno()
            self.step("fsync", _path_of(number), lambda: proper_fsync(number))

        def replace(source: Any, target: Any, **options: Any) -> None:
            self.step("rename", target, lambda: proper_replace(source, target, **options))

        self._write = proper_write
        os.write, os.fsync = write, fsync
        os.replace = os.rename = replace
        # Path.open looks it up in io.
        io.open = builtins.open = _opener(self, io.open)

    def watches(self, path: Any) -> bool:
        """Say whether a path is below the folder."""
        return Path(os.path.realpath(path)).is_relative_to(self.folder)

    def step(self, kind: str, path: Any, whole: Act, half: Act | None = None, size: int = 0) -> Any:
        """Do a step, or what is done instead of it."""
        if not self.watches(path):
            return whole()
        self.count += 1
        if self.count < self.at:
            return whole()
        is_first = self.count == self.at
        if is_first and self.folder.is_dir():
            shutil.copytree(self.folder, self.told / self.folder.name)
        self._write(self._told, f"{kind} {size} {Path(os.fsdecode(path)).name}\n".encode())
        return self.fault(is_first, whole, half)

    @property
    def reached(self) -> list[str]:
        """The steps that were reached from number `at` on, as the parent finds them."""
        return (self.told / "steps").read_text(encoding="utf-8").splitlines()


def first_of_each(steps: Sequence[str]) -> list[int]:
    """Return the number of the first step of each kind on each file, and of the last."""
    first: dict[tuple[str, str], int] = {}
    for number, step in enumerate(steps, start=1):
        kind, _, name = step.split(" ", 2)
        first.setdefault((kind, name), number)
    return sorted({*first.values(), len(steps)})


Fault = Callable[[bool, Act, Act | None], Any]
"""What happens at a step: (is it the first that fails, do it, do half of it) -> its value."""


def as_it_is(_first: bool, whole: Act, _half: Act | None) -> Any:
    """Do the step."""
    return whole()


def killed_before(_first: bool, _whole: Act, _half: Act | None) -> None:
    """Be killed when nothing of the step is done."""
    os.kill(os.getpid(), signal.SIGKILL)


def killed_midway(_first: bool, whole: Act, half: Act | None) -> None:
    """Be killed when half of the bytes are written."""
    (half or whole)()
    os.kill(os.getpid(), signal.SIGKILL)


def killed_after(_first: bool, whole: Act, _half: Act | None) -> None:
    """Be killed when the step is done."""
    whole()
    os.kill(os.getpid(), signal.SIGKILL)


def failing(number: int, *, once: bool = False, midway: bool = False) -> Fault:
    """Return a disk that refuses a step and all that come after it.

    Args:
        number: why, of `errno`.
        once: it refuses that step alone.
        midway: of the first write it takes half of the bytes, as a disk does that has some room.
    """

    def fault(first: bool, whole: Act, half: Act | None) -> Any:
        if once and not first:
            return whole()
        if midway and first and half is not None:
            return half()
        raise OSError(number, os.strerror(number))

    return fault


def _path_of(number: int) -> str:
    return str(Path(f"/proc/self/fd/{number}").readlink())


def _opener(steps: Steps, proper: Callable[..., Any]) -> Callable[..., Any]:
    """Return `open`, by which files below the folder that are to be changed are counted."""

    class Counted(io.FileIO):
        """The file as the system has it, below all buffers."""

        def write(self, data: Any) -> int:
            some = memoryview(data).cast("B")
            proper_write = super().write
            return steps.step(
                "write",
                _path_of(self.fileno()),
                lambda: proper_write(some),
                lambda: proper_write(some[: len(some) // 2]),
                len(some),
            )

        def truncate(self, size: int | None = None) -> int:
            proper_truncate = super().truncate
            return steps.step("truncation", _path_of(self.fileno()), lambda: proper_truncate(size))

    signature = inspect.signature(proper)

    def opened(*arguments: Any, **named: Any) -> Any:
        asked = signature.bind(*arguments, **named)
        asked.apply_defaults()
        file, mode = asked.arguments["file"], asked.arguments["mode"]
        changes = set(mode) & set("wxa+")
        if isinstance(file, int) or not changes or not steps.watches(file):
            return proper(*arguments, **named)

        def make() -> Counted:
            return Counted(file, mode.replace("b", ""), opener=asked.arguments["opener"])

        is_new = not Path(file).is_file()
        raw = steps.step("creation", file, make) if is_new else make()
        if asked.arguments["buffering"] == 0:
            return raw
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffer
        text = ("encoding", "errors", "newline")
        return io.TextIOWrapper(buffer, **{name: asked.arguments[name] for name in text})

    return opened
