"""How much memory a device has, how much of it is in use, and how much was at most.

For a CPU that is the machine's memory, or the container's where that is less, and this process's
share of it. All figures are bytes.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

CGROUP = Path("/sys/fs/cgroup")
PROCESS = Path("/proc/self")


def free_bytes(device: torch.device) -> int:
    """Return the memory that is free on a device, what torch keeps in reserve included."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = _entry(Path("/proc/meminfo"), "MemAvailable")
    limit = _container("memory.max")
    used = _container("memory.current")
    return free if limit is None or used is None else min(free, max(0, limit - used))


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that the device or the machine has no memory left."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def figures(device: torch.device) -> dict[str, int]:
    """Return what to say of the memory when it did not suffice."""
    free = free_bytes(device)
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        used, peak = torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
    else:
        total = _entry(Path("/proc/meminfo"), "MemTotal")
        total = min(total, _container("memory.max") or total)
        used, peak = (_entry(PROCESS / "status", name) for name in ("VmRSS", "VmHWM"))
    return {"free_bytes": free, "used_bytes": used, "peak_bytes": peak, "total_bytes": total}


def reset_peak(device: torch.device) -> bool:
    """Forget the peak so far; False where the system does not allow it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        (PROCESS / "clear_refs").write_text("5", encoding="ascii")  # proc(5): resets VmHWM
    except OSError:
        return False
    return True


def _container(name: str) -> int | None:
    """Return a figure of the container's control group; None where there is no limit."""
    try:
        return int((CGROUP / name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _entry(path: Path, name: str) -> int:
    """Return an entry of a /proc file, which counts in kB."""
    found = re.search(rf"^{name}:\s+(\d+) kB", path.read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) << 10 if found else 0
