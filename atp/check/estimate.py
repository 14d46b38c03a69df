"""Estimates of the memory, disk and time of a run, as JSON values that state their basis.

The constants were measured on the demo (SmolLM2-135M-Instruct on a CPU); tests/check/test_demo.py
compares the estimates with a run there.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import torch

from atp.model.dictionaries.in_parts import PART_BYTES
from atp.model.dictionaries.placement import LENT_SHARE, RESIDENT_SHARE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.check.run_work import RunWork
    from atp.config.run import VectorType
    from atp.dataset.input_scan import InputScan
    from atp.model.dictionaries.outline import SaeOutline
    from atp.model.outline import Outline

HOST_BYTES = 600 << 20  # memory of Python and its libraries

# Bytes in the files that a run writes. Indented JSON is longer than JSON on one line.
FEATURE_BYTES = {True: 223, False: 106}
EFFECT_BYTES = {True: 95, False: 55}  # an effect, and what its feature is ranked by
PAIR_BYTES = {True: 550, False: 320}
JOURNAL_FEATURE_BYTES, JOURNAL_PAIR_BYTES = 106, 380
METADATA_BYTES = 2500
VECTORS_PAIR_BYTES, VECTORS_TOKEN_BYTES = 200, 5  # of its text beside them, and of a token's number

FLAGGED = 6  # features of a pair, of the three SAEs in docs/method.md: 4 to 9

# Loading, at best and at worst.
LIBRARY_SECONDS = (8.0, 20.0)  # importing torch, transformer_lens and SAELens
READ_BYTES_PER_SECOND = (2e9, 2e8)  # from memory, and from a slow disk

# The share of a rate that a run reaches, at best and at worst.
CPU_SHARES = (1.0, 0.3)  # of the rate of one large matrix product
GPU_SHARES = (0.5, 0.1)  # of the data sheet's rate; assumed, not measured
MEASURE_SECONDS = 0.25
MATRIX_SIZE = 512

# Dense bfloat16 with tensor cores, from NVIDIA's data sheets. The first name that fits counts.
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


def memory(  # noqa: PLR0913, PLR0917  (what a run is, and where)
    outline: Outline,
    saes: Sequence[SaeOutline],
    work: RunWork,
    kind: str,
    free_bytes: int,
    sharing: int = 1,
) -> dict[str, Any]:
    """Return the peak memory of a run on a device of a kind, which `sharing` processes share."""
    sizes = [sae.bytes for sae in saes]
    known = [size for size in sizes if size is not None]
    per_token = outline.shape.bytes_per_token(
        [sae.hook_name or "" for sae in saes], work.settings.tail
    )
    base = outline.bytes + (HOST_BYTES if kind == "cpu" else 0)
    sae_bytes = sum(known)
    if kind == "cuda" and sae_bytes > RESIDENT_SHARE * (free_bytes - base):
        # The SAEs are offloaded: one at a time is on the device, or a part of one.
        lent = LENT_SHARE * (free_bytes - base)
        sae_bytes = max((size if size <= lent else PART_BYTES for size in known), default=0)
    basis = "weights and SAEs exactly, batches at most"
    if outline.shape.whole:
        basis = "weights and SAEs exactly, batches roughly: recurrent layers count as attention"
    if kind == "cpu":
        basis += f", {HOST_BYTES >> 20} MiB for Python and its libraries"
    if sharing > 1:
        basis += f", in each of {sharing} workers"
    loaded = base + sae_bytes
    return {
        "peak_bytes": round(sharing * (loaded + per_token * work.largest_batch_tokens)),
        "least_bytes": round(sharing * (loaded + per_token * work.longest_pair_tokens)),
        "free_bytes": free_bytes,
        "weights_bytes": outline.bytes,
        "sae_bytes": None if None in sizes else sum(known),
        "batch_bytes": round(per_token * work.largest_batch_tokens),
        "bytes_per_token": round(per_token),
        "basis": basis,
    }


def vector_bytes(
    outline: Outline, saes: Sequence[SaeOutline], work: RunWork, vector_type: VectorType | None
) -> int:
    """Return the bytes of the vectors that a run keeps: x and g of each hook point.

    At most, if several SAEs write to the same one.
    """
    if vector_type is None:
        return 0
    # What a transcoder writes is as wide as what it reads, or nearly so.
    widths = {sae.hook_name: sae.d_in or outline.shape.d_model for sae in saes}
    kept = {sae.hook_name: 1 + 2 * sae.outputs if sae.outputs else 2 for sae in saes}
    element = min(getattr(torch, name).itemsize for name in (vector_type, outline.dtype))
    base_prompts = work.scored if work.settings.scoring.baseline == "base" else 0
    vectors = int(element) * sum(
        (kept[name] * work.read_positions + base_prompts) * width for name, width in widths.items()
    )
    return vectors + work.scored * VECTORS_PAIR_BYTES + work.prompt_tokens * VECTORS_TOKEN_BYTES


def disk(
    scan: InputScan, work: RunWork, saes: Sequence[SaeOutline], vectors: int = 0
) -> dict[str, Any]:
    """Return the bytes that a run writes, in the layout of the input, beside those of vectors."""
    result = journal = 0
    exact = work.settings.scoring.exact != "none"
    of_feature = FEATURE_BYTES[scan.indented] + exact * EFFECT_BYTES[scan.indented]
    of_journal = JOURNAL_FEATURE_BYTES + exact * EFFECT_BYTES[False]
    for sae in saes:
        features = work.scored * min(work.settings.top_k, sae.d_sae or work.settings.top_k)
        result += scan.size + METADATA_BYTES
        result += features * of_feature + work.pairs * PAIR_BYTES[scan.indented]
        journal += features * of_journal + work.pairs * JOURNAL_PAIR_BYTES
    return {
        "result_bytes": result,
        "journal_bytes": journal,
        "vectors_bytes": vectors,
        "peak_bytes": 2 * result + journal + vectors,
        "basis": "the input's size, and the bytes of a feature in the demo; "
        "a result file takes its space twice while it is rewritten",
    }


def time_needed(  # noqa: PLR0913, PLR0917  (as for memory)
    outline: Outline,
    saes: Sequence[SaeOutline],
    work: RunWork,
    kind: str,
    gpu: str,
    workers: int = 1,
) -> dict[str, Any]:
    """Return the time that a run takes on a CPU or on GPUs of a name, from best to worst case.

    Workers have a GPU each, and share the cores of a CPU.
    """
    flops = floating_point_operations(outline, saes, work)
    rate, basis = _cpu_rate(outline) if kind == "cpu" else _gpu_rate(outline, gpu)
    weights = outline.bytes + sum(sae.bytes or 0 for sae in saes)
    loading = [
        round(libraries + weights / speed, 1)
        for libraries, speed in zip(LIBRARY_SECONDS, READ_BYTES_PER_SECOND, strict=True)
    ]
    computing = total = None
    if rate is not None:
        shares = CPU_SHARES if kind == "cpu" else GPU_SHARES
        gpus = 1 if kind == "cpu" else workers
        computing = [round(flops / (rate * share * gpus), 1) for share in shares]
        total = [round(sum(parts), 1) for parts in zip(loading, computing, strict=True)]
    return {
        "loading_seconds": loading,
        "computing_seconds": computing,
        "seconds": total,
        "flops": flops,
        "rate_flops": rate,
        "basis": basis,
    }


def floating_point_operations(outline: Outline, saes: Sequence[SaeOutline], work: RunWork) -> int:
    """Return the operations of all passes and SAEs: two for each weight that a token meets.

    The weights are frozen, so a backward pass costs as much as its forward pass. Only products with
    weights are counted: not attention over earlier tokens, norms and copies.
    """
    hooks = [sae.hook_name or "" for sae in saes]
    tokens = work.computed_tokens + _share_of_layers(outline, hooks) * work.gradient_tokens
    # An upper bound: a pass over base prompts ends at the highest hook point.
    tokens += work.base_prompts.computed_tokens
    weights = outline.body_parameters * tokens
    # Log-probabilities need all logits, and all of them once more and back for the gradient.
    weights += 3 * outline.unembedding_parameters * work.logprob_tokens
    for sae in saes:
        half = (sae.weights or 0) // 2  # encoder or decoder
        # Encoder, decoder, and the decoder's backward pass; for a base prompt only the encoder.
        weights += 3 * half * work.read_positions + half * work.base_prompts.prompts
        weights += _variants(outline, sae, work, half)
    return round(2 * weights)


def _variants(outline: Outline, sae: SaeOutline, work: RunWork, half: int) -> float:
    """Return the weights that the variants of all pairs meet: steps of a path, removed features."""
    method = work.settings.scoring
    steps = method.ig_steps if method.name == "ig" else 0
    # An upper bound: a listed feature that is not active is not removed. With these: the sample,
    # nothing, and all together.
    listed = min(work.settings.top_k, sae.d_sae or work.settings.top_k)
    removals = {"none": 0, "flagged": FLAGGED + 2, "all": listed + 3}[method.exact]
    forward, backward = steps + bool(steps) + removals, steps
    layers = _share_of_layers(outline, [sae.hook_name or ""])
    passes = (forward + backward) * layers * work.variant_tokens
    logits = (forward + 2 * backward) * work.logprob_tokens
    decoded = (removals + bool(steps)) * work.read_positions
    weights = outline.body_parameters * passes + outline.unembedding_parameters * logits
    return weights + half * decoded


def _share_of_layers(outline: Outline, hook_names: Sequence[str]) -> float:
    """Return the share of the layers above the lowest hook point."""
    return outline.shape.layers_above(hook_names) / outline.shape.layers


def _cpu_rate(outline: Outline) -> tuple[float, str]:
    matrix = torch.ones(MATRIX_SIZE, MATRIX_SIZE, dtype=getattr(torch, outline.dtype))
    products = 0
    matrix @ matrix  # the first product starts the threads
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < MEASURE_SECONDS:
        matrix @ matrix
        products += 1
    rate = products * 2 * MATRIX_SIZE**3 / passed
    basis = (
        f"a matrix product reaches {rate / 1e9:.0f} GFLOP/s here just now, "
        f"a run {CPU_SHARES[1]:.0%} to {CPU_SHARES[0]:.0%} of that"
    )
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > cores:
        basis += f"; other work slows it: the load is {load:.1f} on {cores} cores"
    return rate, basis


def _gpu_rate(outline: Outline, gpu: str) -> tuple[float | None, str]:
    words = f" {gpu.replace('-', ' ')} "
    known = next((name for name in TERAFLOPS if f" {name} " in words), None)
    if outline.dtype != "bfloat16":
        return None, "no estimate: for bfloat16 only"
    if known is None:
        return None, f"no estimate: the speed of {gpu} is not known here"
    basis = (
        f"{TERAFLOPS[known]} TFLOP/s by the data sheet of the {known}; "
        f"a run is assumed to reach {GPU_SHARES[1]:.0%} to {GPU_SHARES[0]:.0%} of that"
    )
    return TERAFLOPS[known] * 1e12, basis
