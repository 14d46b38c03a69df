"""The machine's GPUs and the device of a run, from NVIDIA's library, which does not start CUDA."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pynvml

from atp.errors import UnavailableError

# The oldest driver for each major version of CUDA, from NVIDIA's release notes.
DRIVERS = {13: (580, 65), 12: (525, 60)}


@dataclass(frozen=True)
class Gpu:
    """A GPU that CUDA would show to this process."""

    name: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Nvidia:
    """NVIDIA's driver and its GPUs, in CUDA's order as far as that is known."""

    driver: str
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True)
class Device:
    """The device of a run."""

    kind: str  # "cpu" or "cuda"
    gpu: Gpu | None = None
    note: str = ""  # why a run without --device takes the CPU


def find_nvidia() -> Nvidia | None:
    """Return the driver and the visible GPUs; None where there is no driver."""
    try:
        with ExitStack() as stack:
            pynvml.nvmlInit()
            stack.callback(pynvml.nvmlShutdown)
            count = pynvml.nvmlDeviceGetCount()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
            uuids = [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
            visible = _visible(uuids, os.environ.get("CUDA_VISIBLE_DEVICES"))
            gpus = tuple(_gpu(handles[index]) for index in visible)
            return Nvidia(str(pynvml.nvmlSystemGetDriverVersion()), gpus)
    except pynvml.NVMLError:
        return None


def _gpu(handle: Any) -> Gpu:  # noqa: ANN401  (a pointer)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(str(pynvml.nvmlDeviceGetName(handle)), int(memory.total), int(memory.free))


def _visible(uuids: list[str], visible_devices: str | None) -> list[int]:
    """Return the indices in CUDA_VISIBLE_DEVICES up to the first invalid one, as CUDA does."""
    if visible_devices is None:
        return list(range(len(uuids)))
    indices: list[int] = []
    for name in (part.strip() for part in visible_devices.split(",")):
        if name.isdecimal() and int(name) < len(uuids):
            indices.append(int(name))
            continue
        matches = [index for index, uuid in enumerate(uuids) if name and uuid.startswith(name)]
        if len(matches) != 1:
            break
        indices += matches
    return indices


def choose_device(requested: str | None, nvidia: Nvidia | None, cuda: str | None) -> Device:
    """Return the device that a run would take, or raise UnavailableError.

    `cuda` is the version that torch was built for; None for its CPU build.
    """
    if requested == "cpu":
        return Device("cpu")
    hint = "Use --device=cpu, or check the driver and CUDA_VISIBLE_DEVICES."
    if nvidia is None:
        reason = "no NVIDIA driver answers on this machine"
    elif not nvidia.gpus:
        reason = "no GPU is visible on this machine"
    elif cuda is None:
        reason = "the installed torch is its CPU build"
        hint = "Install the CUDA build: `make clean install`."
    else:
        _check_driver(nvidia.driver, cuda)
        index = int((requested or "cuda").partition(":")[2] or 0)
        if index < len(nvidia.gpus):
            return Device("cuda", nvidia.gpus[index])
        reason = f"{len(nvidia.gpus)} GPU(s) are visible"
        hint = "Count from cuda:0, and look at CUDA_VISIBLE_DEVICES."
    if requested is None:
        return Device("cpu", note=f"no GPU is used: {reason}")
    msg = f"--device={requested} is not available: {reason}."
    raise UnavailableError(msg, hint)


def _check_driver(driver: str, cuda: str) -> None:
    needed = DRIVERS.get(int(cuda.partition(".")[0]))
    version = tuple(int(part) for part in driver.split(".") if part.isdecimal())
    if needed is not None and version < needed:
        oldest = ".".join(map(str, needed))
        msg = f"the NVIDIA driver {driver} is too old: torch with CUDA {cuda} needs {oldest} "
        msg += "or newer."
        raise UnavailableError(msg, "Update the driver, or use --device=cpu.")
