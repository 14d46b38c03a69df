"""What a run would take: memory, disk and time, as far as it can be known; each says how.

The constants were measured on the demo (SmolLM2-135M-Instruct on a CPU); tests/check/test_demo.py
compares the estimates with a run there.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import torch

from atp.check.operations import floating_point_operations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.check.answers import Work
    from atp.model.dictionaries.outline import SaeOutline
    from atp.model.outline import Outline

HOST_BYTES = 600 << 20
"""Memory of Python and its libraries, once all of them are imported."""

FEATURE_BYTES = {True: 180, False: 78}
"""Of the result file, for each feature of a scored pair: laid out over lines, and on one line."""
PAIR_BYTES = {True: 550, False: 320}
"""The same, for each pair."""
JOURNAL_FEATURE_BYTES, JOURNAL_PAIR_BYTES = 78, 380
METADATA_BYTES = 2500

LIBRARY_SECONDS = (8.0, 20.0)
"""Importing torch, transformer_lens and SAELens."""
READ_BYTES_PER_SECOND = (2e9, 2e8)
"""Loading weights: from memory, and from a slow disk."""
CPU_SHARES = (1.0, 0.3)
"""Of the rate of one large product of matrices, what a run reaches on a CPU: at best, at worst."""
GPU_SHARES = (0.5, 0.1)
"""The same for a GPU, of the data sheet's rate. Assumed, not measured."""
MEASURE_SECONDS = 0.25
MATRIX = 512

TERAFLOPS = {
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "A100": 312,
    "A40": 150,
    "A30": 165,
    "A10": 125,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
}
"""Dense bfloat16 with tensor cores, of NVIDIA's data sheets. A longer name stands before a shorter
one that it starts with."""


def memory(
    outline: Outline, saes: Sequence[SaeOutline], work: Work, kind: str, free: int
) -> dict[str, Any]:
    """Return the peak of a run on a device, as JSON values.

    Args:
        outline: of the model.
        saes: all that are scored.
        work: counted.
        kind: of device.
        free: its free bytes.
    """
    sizes = [sae.bytes for sae in saes]
    known = [size for size in sizes if size is not None]
    hooks = [sae.hook_name or "" for sae in saes]
    each = outline.shape.bytes_per_token(hooks, work.tail)
    base = outline.bytes + (HOST_BYTES if kind == "cpu" else 0)
    on_device = sum(known)
    if kind == "cuda" and on_device > (free - base) / 4:  # they are lent, one at a time
        on_device = max(known, default=0)
    return {
        "peak_bytes": round(base + on_device + each * work.widest_tokens),
        "least_bytes": round(base + on_device + each * work.longest_tokens),
        "free_bytes": free,
        "weights_bytes": outline.bytes,
        "sae_bytes": None if None in sizes else sum(known),
        "batch_bytes": round(each * work.widest_tokens),
        "bytes_per_token": round(each),
        "basis": "weights and SAEs exactly, batches at the most"
        + (f", {HOST_BYTES >> 20} MiB for Python and its libraries" if kind == "cpu" else ""),
    }


def disk(
    input_bytes: int, work: Work, top_k: int, saes: Sequence[SaeOutline], *, indented: bool
) -> dict[str, Any]:
    """Return what a run writes, as JSON values."""
    result = journal = 0
    for sae in saes:
        features = work.scored * min(top_k, sae.d_sae or top_k)
        result += input_bytes + METADATA_BYTES
        result += features * FEATURE_BYTES[indented] + work.pairs * PAIR_BYTES[indented]
        journal += features * JOURNAL_FEATURE_BYTES + work.pairs * JOURNAL_PAIR_BYTES
    return {
        "result_bytes": result,
        "journal_bytes": journal,
        "peak_bytes": 2 * result + journal,
        "basis": "the input's size, and the bytes a feature took in the demo; "
        "a result file stands there twice while it is written anew",
    }


def time_needed(
    outline: Outline, saes: Sequence[SaeOutline], work: Work, kind: str, gpu: str | None
) -> dict[str, Any]:
    """Return how long a run may take, as JSON values.

    Args:
        outline: of the model.
        saes: all that are scored.
        work: counted.
        kind: of device.
        gpu: its name.
    """
    flops = floating_point_operations(outline, saes, work)
    rate, basis, shares = _cpu_rate(outline) if kind == "cpu" else _gpu_rate(outline, gpu or "")
    sae_bytes = sum(sae.bytes or 0 for sae in saes)
    loading = [
        round(libraries + (outline.bytes + sae_bytes) / speed, 1)
        for libraries, speed in zip(LIBRARY_SECONDS, READ_BYTES_PER_SECOND, strict=True)
    ]
    computing = None if rate is None else [round(flops / (rate * share), 1) for share in shares]
    return {
        "loading_seconds": loading,
        "computing_seconds": computing,
        "seconds": computing
        and [round(sum(pair), 1) for pair in zip(loading, computing, strict=True)],
        "flops": flops,
        "rate_flops": rate,
        "basis": basis,
    }


def _cpu_rate(outline: Outline) -> tuple[float, str, tuple[float, float]]:
    """Measure how fast this CPU multiplies matrices, for a moment."""
    a = torch.ones(MATRIX, MATRIX, dtype=getattr(torch, outline.dtype))
    products = 0
    a @ a  # the first one starts threads
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < MEASURE_SECONDS:
        a @ a
        products += 1
    rate = products * 2 * MATRIX**3 / passed
    basis = (
        f"a product of matrices reaches {rate / 1e9:.0f} GFLOP/s here just now, "
        f"a run {CPU_SHARES[1]:.0%} to {CPU_SHARES[0]:.0%} of that"
    )
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > cores:
        basis += f"; other work slows it: the load is {load:.1f} on {cores} cores"
    return rate, basis, CPU_SHARES


def _gpu_rate(outline: Outline, gpu: str) -> tuple[float | None, str, tuple[float, float]]:
    words = f" {gpu.replace('-', ' ')} "
    known = next((name for name in TERAFLOPS if f" {name} " in words), None)
    if outline.dtype != "bfloat16":
        return None, "no estimate: for bfloat16 only", GPU_SHARES
    if known is None:
        return None, f"no estimate: the speed of {gpu} is not known here", GPU_SHARES
    basis = (
        f"{TERAFLOPS[known]} TFLOP/s by the data sheet of the {known}; "
        f"a run is assumed to reach {GPU_SHARES[1]:.0%} to {GPU_SHARES[0]:.0%} of that"
    )
    return TERAFLOPS[known] * 1e12, basis, GPU_SHARES
