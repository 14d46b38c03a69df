"""The device and the dtype of a model.

`atp check` must not start CUDA: it asks NVIDIA's management library (atp/check/machine.py).
"""

from __future__ import annotations

import torch

from atp.errors import UnavailableError


def choose_device(name: str | None) -> torch.device:
    """Return the named device, if this machine has it; by default the GPU if there is one."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type != "cpu" and (device.type != "cuda" or (device.index or 0) >= gpus):
        msg = f"the device {name} is not available: torch {torch.__version__} does not see it."
        raise UnavailableError(msg, "Use --device=cpu, or check the driver and `nvidia-smi`.")
    return device


def choose_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """Return the named dtype; by default float32 on a CPU and bfloat16 elsewhere."""
    default = "float32" if device.type == "cpu" else "bfloat16"
    dtype: torch.dtype = getattr(torch, name or default)
    return dtype
