"""The device and the dtype of a model, and whether it is split over several devices.

`atp check` must not start CUDA: it asks NVIDIA's management library (atp/check/machine.py).
"""

from __future__ import annotations

from typing import TypeAlias

import torch

from atp.errors import SettingsError, UnavailableError

DeviceMap: TypeAlias = str | dict[str, int | str]
"""How to split a model: "auto", or the device of each module by name, as Transformers takes it."""


def choose_split(device: str | None, device_map: DeviceMap | None) -> DeviceMap | None:
    """Return how to split a model, or None where it goes to a single device."""
    if device_map is None:
        return None
    if device is not None:
        msg = f"--device={device} and --device-map exclude each other."
        raise SettingsError(msg, "Leave one out; CUDA_VISIBLE_DEVICES=0,1 chooses among GPUs.")
    if device_map == "auto" and (gpus := _gpus()) < 2:  # noqa: PLR2004  (a split needs two)
        if gpus == 1:
            return None
        msg = "--device-map=auto splits a model over GPUs, and torch sees none here."
        raise SettingsError(msg, "Leave it out, or check the driver and `nvidia-smi`.")
    return device_map


def first_device(split: DeviceMap) -> torch.device:
    """Return a device of a split model, for its kind."""
    return torch.device("cuda" if isinstance(split, str) else next(iter(split.values())))


def choose_device(name: str | None) -> torch.device:
    """Return the named device, if this machine has it; by default the GPU if there is one."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    gpus = _gpus()
    if device.type != "cpu" and (device.type != "cuda" or (device.index or 0) >= gpus):
        msg = f"the device {name} is not available: torch {torch.__version__} does not see it."
        raise UnavailableError(msg, "Use --device=cpu, or check the driver and `nvidia-smi`.")
    return device


def _gpus() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def choose_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """Return the named dtype; by default float32 on a CPU and bfloat16 elsewhere."""
    default = "float32" if device.type == "cpu" else "bfloat16"
    dtype: torch.dtype = getattr(torch, name or default)
    return dtype
