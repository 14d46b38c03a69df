"""The device that a run would take is found without CUDA."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from atp.check.machine import Gpu, Nvidia, choose_device, find_nvidia
from atp.errors import UnavailableError

CARDS = (Gpu("NVIDIA H100 80GB HBM3", 80, 79), Gpu("NVIDIA L4", 24, 23))
NEW, OLD = "580.65.06", "570.124.06"


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """NVIDIA's library as it answers on a machine with two GPUs; the calls to begin and end it."""
    calls: list[str] = []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    answers: dict[str, Any] = {
        "nvmlInit": lambda: calls.append("init"),
        "nvmlShutdown": lambda: calls.append("shutdown"),
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}aaa",
        "nvmlDeviceGetName": lambda handle: CARDS[handle].name,
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(
            total=CARDS[handle].total_bytes, free=CARDS[handle].free_bytes
        ),
        "nvmlSystemGetDriverVersion": lambda: NEW,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    return calls


@pytest.mark.parametrize(
    ("visible", "left"),
    [
        (None, [0, 1]),
        ("", []),
        ("-1", []),
        ("1", [1]),
        ("1,0", [1, 0]),
        ("0,7,1", [0]),
        ("GPU-1", [1]),
        ("GPU-", []),
    ],
)
def test_gpus_are_those_that_cuda_would_show(
    two_gpus: list[str], monkeypatch: pytest.MonkeyPatch, visible: str | None, left: list[int]
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    assert find_nvidia() == Nvidia(NEW, tuple(CARDS[index] for index in left))
    assert two_gpus == ["init", "shutdown"]


def test_no_driver_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)

    assert find_nvidia() is None


@pytest.mark.parametrize(
    ("requested", "nvidia", "cuda", "kind", "gpu"),
    [
        ("cpu", Nvidia(NEW, CARDS), "13.0", "cpu", None),
        (None, Nvidia(NEW, CARDS), "13.0", "cuda", 0),
        ("cuda", Nvidia(NEW, CARDS), "13.0", "cuda", 0),
        ("cuda:1", Nvidia(NEW, CARDS), "13.0", "cuda", 1),
        (None, Nvidia(OLD, CARDS), "12.8", "cuda", 0),
        (None, Nvidia(NEW, CARDS), None, "cpu", None),
        (None, Nvidia(NEW, ()), "13.0", "cpu", None),
        (None, None, "13.0", "cpu", None),
    ],
)
def test_the_device_is_that_of_a_run(
    requested: str | None, nvidia: Nvidia | None, cuda: str | None, kind: str, gpu: int | None
) -> None:
    device = choose_device(requested, nvidia, cuda)

    assert device.kind == kind
    assert device.gpu == (None if gpu is None else CARDS[gpu])
    assert bool(device.note) == (requested is None and kind == "cpu")


@pytest.mark.parametrize(
    ("requested", "nvidia", "cuda", "message"),
    [
        ("cuda", None, "13.0", "no NVIDIA driver"),
        ("cuda", Nvidia(NEW, ()), "13.0", "no GPU is visible"),
        ("cuda", Nvidia(NEW, CARDS), None, "its CPU build"),
        ("cuda:2", Nvidia(NEW, CARDS), "13.0", "2 GPU"),
        (None, Nvidia(OLD, CARDS), "13.0", "needs 580.65 or newer"),
        ("cuda", Nvidia("525.59", CARDS), "12.1", "needs 525.60 or newer"),
    ],
)
def test_a_device_that_is_not_available_is_refused_with_a_hint(
    requested: str | None, nvidia: Nvidia | None, cuda: str | None, message: str
) -> None:
    with pytest.raises(UnavailableError, match=message) as caught:
        choose_device(requested, nvidia, cuda)
    assert caught.value.hint
