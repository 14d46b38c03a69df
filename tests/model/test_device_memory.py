"""What is said of memory is what is there: figures in order, a peak that is felt, limits that hold.

On a CPU; the figures of a GPU come from torch itself.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from atp.model import device_memory
from atp.model.device_memory import figures, free_bytes, reset_peak

CPU = torch.device("cpu")
MIB = 2**20


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the container's limits; there are none yet."""
    monkeypatch.setattr(device_memory, "CGROUP", tmp_path)
    return tmp_path


def limit(cgroup: Path, most: str, used: int) -> None:
    """Write the files by which Linux tells a container's limit and use."""
    (cgroup / "memory.max").write_text(f"{most}\n", encoding="ascii")
    (cgroup / "memory.current").write_text(f"{used}\n", encoding="ascii")


def test_figures_are_positive_and_in_order() -> None:
    found = figures(CPU)
    assert list(found) == ["free_bytes", "used_bytes", "peak_bytes", "total_bytes"]
    assert all(isinstance(value, int) for value in found.values())
    assert 0 < found["used_bytes"] <= found["peak_bytes"] <= found["total_bytes"]
    assert 0 < found["free_bytes"] <= found["total_bytes"]


def test_figures_count_bytes() -> None:
    """Against what the system says of the same machine and process by other ways."""
    page = os.sysconf("SC_PAGE_SIZE")
    resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * page
    found = figures(CPU)
    assert found["used_bytes"] < found["total_bytes"] <= 1.01 * os.sysconf("SC_PHYS_PAGES") * page
    assert found["used_bytes"] == pytest.approx(resident, rel=0.1)


def test_the_kilobytes_of_linux_are_1024_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = "Name:\tatp\nVmHWM:\t    4096 kB\nVmRSS:\t    2048 kB\n"
    (tmp_path / "status").write_text(status, encoding="ascii")
    monkeypatch.setattr(device_memory, "PROCESS", tmp_path)
    found = figures(CPU)
    assert found["used_bytes"] == 2 * MIB
    assert found["peak_bytes"] == 4 * MIB


def test_what_is_allocated_for_a_moment_raises_the_peak_by_as_much() -> None:
    if not reset_peak(CPU):
        pytest.skip("this system does not let a process reset its peak (/proc/self/clear_refs)")
    before = figures(CPU)
    held = b"\1" * (200 * MIB)
    during = figures(CPU)["used_bytes"] - before["used_bytes"]
    del held
    after = figures(CPU)
    assert during == pytest.approx(200 * MIB, rel=0.1)
    assert after["peak_bytes"] - before["used_bytes"] == pytest.approx(200 * MIB, rel=0.1)
    assert after["used_bytes"] - before["used_bytes"] < 20 * MIB

    assert reset_peak(CPU)
    assert figures(CPU)["peak_bytes"] < after["peak_bytes"] - 150 * MIB


def test_a_system_that_does_not_reset_the_peak_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clear_refs").mkdir()  # cannot be written to, by root neither
    monkeypatch.setattr(device_memory, "PROCESS", tmp_path)
    assert reset_peak(CPU) is False


def test_a_containers_limit_bounds_what_is_free(cgroup: Path) -> None:
    limit(cgroup, str(96 * MIB), 32 * MIB)
    assert free_bytes(CPU) == 64 * MIB
    assert figures(CPU)["free_bytes"] == 64 * MIB


def test_a_container_over_its_limit_has_nothing_free(cgroup: Path) -> None:
    limit(cgroup, str(32 * MIB), 33 * MIB)
    assert free_bytes(CPU) == 0


def test_a_limit_above_what_the_machine_has_changes_nothing(cgroup: Path) -> None:
    limit(cgroup, str(2**60), 32 * MIB)
    assert free_bytes(CPU) <= figures(CPU)["total_bytes"]


@pytest.mark.parametrize("content", ["max", "", None])
def test_without_a_limit_the_machine_is_the_bound(cgroup: Path, content: str | None) -> None:
    if content is not None:
        limit(cgroup, content, 0)
    machine = figures(CPU)["total_bytes"]
    assert 0 < free_bytes(CPU) <= machine


def test_a_containers_limit_bounds_the_total(cgroup: Path) -> None:
    limit(cgroup, str(96 * MIB), 32 * MIB)
    assert figures(CPU)["total_bytes"] == 96 * MIB
