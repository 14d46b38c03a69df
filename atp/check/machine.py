"""The machine: its GPUs by NVIDIA's management library, which starts no CUDA; its disks."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pynvml

from atp.dataset import output
from atp.errors import SettingsError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DRIVERS = {13: (580, 65), 12: (525, 60)}
"""The oldest driver that CUDA of a major version runs on, of NVIDIA's release notes."""


@dataclass(frozen=True)
class Gpu:
    """A GPU that CUDA would show to this process."""

    name: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Nvidia:
    """NVIDIA's driver and the GPUs behind it, in CUDA's order as far as is known."""

    driver: str
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True)
class Device:
    """What a run would compute on."""

    kind: str
    """"cpu" or "cuda"."""
    gpu: Gpu | None = None
    note: str = ""
    """Why it is this one, where that may surprise."""


def nvidia() -> Nvidia | None:
    """Return the driver and the visible GPUs; None where there is no driver."""
    try:
        with _nvml():
            count = pynvml.nvmlDeviceGetCount()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
            uuids = [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
            visible = _visible(uuids, os.environ.get("CUDA_VISIBLE_DEVICES"))
            gpus = tuple(_gpu(handles[index]) for index in visible)
            return Nvidia(str(pynvml.nvmlSystemGetDriverVersion()), gpus)
    except pynvml.NVMLError:
        return None


@contextmanager
def _nvml() -> Iterator[None]:
    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def _gpu(handle: Any) -> Gpu:  # noqa: ANN401  (a pointer)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(str(pynvml.nvmlDeviceGetName(handle)), int(memory.total), int(memory.free))


def _visible(uuids: list[str], chosen: str | None) -> list[int]:
    """Return the indices that CUDA_VISIBLE_DEVICES leaves, in its order; it ends at a wrong one."""
    if chosen is None:
        return list(range(len(uuids)))
    found = []
    for name in (part.strip() for part in chosen.split(",")):
        if name.isdecimal() and int(name) < len(uuids):
            found.append(int(name))
            continue
        matches = [index for index, uuid in enumerate(uuids) if name and uuid.startswith(name)]
        if len(matches) != 1:
            break
        found += matches
    return found


def choose_device(asked: str | None, there: Nvidia | None, cuda: str | None) -> Device:
    """Return the device that a run would take, without starting CUDA.

    Args:
        asked: as given to --device.
        there: what `nvidia` found.
        cuda: the version that torch was built for; None for its CPU build.

    Raises:
        UnavailableError: the device cannot be had; says what to do.
    """
    if asked == "cpu":
        return Device("cpu")
    hint = "Use --device=cpu, or mend it."
    if there is None or not there.gpus:
        why = "no NVIDIA driver answers" if there is None else "no GPU is visible"
        if asked is None:
            return Device("cpu", note=f"no GPU: {why}")
        msg = f"--device={asked} cannot be had: {why} on this machine."
        raise UnavailableError(msg, hint)
    if cuda is None:
        if asked is None:
            return Device(
                "cpu", note=f"the {there.gpus[0].name} stays idle: torch is its CPU build"
            )
        msg = f"--device={asked} cannot be had: the installed torch is its CPU build."
        raise UnavailableError(msg, "Install the CUDA build: `make clean install`.")
    needed = DRIVERS.get(int(cuda.partition(".")[0]))
    if needed is not None and _version(there.driver) < needed:
        oldest = ".".join(map(str, needed))
        msg = f"the NVIDIA driver {there.driver} is too old for torch, whose CUDA {cuda} needs "
        msg += f"{oldest} or newer."
        raise UnavailableError(msg, "Update the driver, or use --device=cpu.")
    index = int((asked or "cuda").partition(":")[2] or 0)
    if index >= len(there.gpus):
        msg = f"--device={asked} cannot be had: {len(there.gpus)} GPU(s) are visible."
        raise UnavailableError(msg, "Count from cuda:0, and look at CUDA_VISIBLE_DEVICES.")
    return Device("cuda", there.gpus[index])


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


@dataclass(frozen=True)
class Folder:
    """A folder that a run would write to, made or not."""

    path: Path
    writable: bool
    free_bytes: int | None
    held_by: str | None
    """The run that writes there now, as far as it is known."""


def look_at(folder: Path) -> Folder:
    """Return what can be said of an output folder; leaves nothing behind.

    Raises:
        SettingsError: it cannot be made or written to.
    """
    near = _nearest(folder)
    try:
        with tempfile.TemporaryFile(dir=near):  # has no name, so that nothing can be left
            pass
    except OSError as error:
        msg = f"the output folder {folder} cannot be written to: {error.strerror or error}."
        raise SettingsError(
            msg, "Choose another with --out=DIR, or mend its permissions."
        ) from error
    return Folder(folder, writable=True, free_bytes=free_bytes(folder), held_by=_held_by(folder))


def free_bytes(folder: Path) -> int | None:
    """Return the free space of the disk that a folder is on, or would be; None if that fails."""
    try:
        return shutil.disk_usage(_nearest(folder)).free
    except OSError:
        return None


def _nearest(folder: Path) -> Path:
    """Return the folder itself, or the nearest one above it that there is."""
    whole = folder.absolute()
    return next((path for path in (whole, *whole.parents) if os.path.lexists(path)), whole)


def _held_by(folder: Path) -> str | None:
    """Return who holds the lock of a folder; None when nobody does."""
    try:
        lock = os.open(folder / output.LOCK_NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # given back at once, by closing
    except OSError:
        return str(output.holder(folder) or "another run")
    finally:
        os.close(lock)
    return None
