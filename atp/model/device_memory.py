"""How much memory a device has and uses, in bytes.

For a CPU these are the figures of the machine, or of the container where that has less.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
PROCESS = Path("/proc/self")


def free_bytes(device: torch.device) -> int:
    """Return the memory that is free on a device, including what torch keeps in reserve."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = _kernel_figure(MEMINFO, "MemAvailable")
    limit = _container_figure("memory.max")
    used = _container_figure("memory.current")
    return free if limit is None or used is None else min(free, max(0, limit - used))


def fullest(devices: Iterable[torch.device]) -> torch.device:
    """Return the device that has the least free memory."""
    return min(devices, key=free_bytes)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether the device or the machine has no memory left."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def figures(device: torch.device) -> dict[str, int]:
    """Return the figures that a log or a result gives when the memory did not suffice."""
    free = free_bytes(device)
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        used, peak = torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
    else:
        total = _kernel_figure(MEMINFO, "MemTotal")
        total = min(total, _container_figure("memory.max") or total)
        used, peak = (_kernel_figure(PROCESS / "status", name) for name in ("VmRSS", "VmHWM"))
    return {"free_bytes": free, "used_bytes": used, "peak_bytes": peak, "total_bytes": total}


def reset_peak(device: torch.device) -> bool:
    """Set the peak to the present use; False where the system does not allow it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        (PROCESS / "clear_refs").write_text("5", encoding="ascii")  # proc(5): resets VmHWM
    except OSError:
        return False
    return True


def _container_figure(name: str) -> int | None:
    try:
        return int((CGROUP / name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _kernel_figure(path: Path, name: str) -> int:
    text = path.read_text(encoding="ascii")
    match = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) << 10 if match else 0
