"""The estimates count what they say; tests/check/test_demo.py holds them against a real run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from tiers import first_tier

from atp.check import estimate
from atp.check.findings import InputProblems
from atp.check.run_work import RunWork
from atp.cli.main import main
from atp.config.method import Method
from atp.config.settings import Settings
from atp.errors import ExitCode
from atp.model.dictionaries.in_parts import PART_BYTES
from atp.model.dictionaries.outline import SaeOutline
from atp.model.memory_model import Shape
from atp.model.outline import Outline

SHAPE = Shape(4, 4, 2, 8, 32, 64, 2)
MODEL = Outline("m", None, 256, SHAPE, 10_000, 6_000, 20_000)


def sae(layer: int, weights: int | None = 1_000) -> SaeOutline:
    """Return the outline of an SAE after a layer."""
    return SaeOutline("s", "folder", f"blocks.{layer}.hook_resid_post", 32, 16, "topk", weights)


def work(method: Method = Method(), **counts: Any) -> RunWork:
    """Return work that has been counted."""
    pair_tokenizer: Any = SimpleNamespace(n_ctx=256)
    settings = Settings(Path(), Path(), top_k=7, scoring=method)
    return RunWork(pair_tokenizer, settings, 2048, InputProblems(), 256, **counts)


def test_the_operations_are_those_of_forward_tail_and_saes() -> None:
    counted = work(scored=5, read_positions=5, computed_tokens=100, gradient_tokens=20)

    found = estimate.floating_point_operations(MODEL, [sae(1), sae(3)], counted)

    forward, tail = 2 * 6_000 * 100, 2 * 6_000 * 20 * 3 // 4
    assert found == forward + tail + 2 * (2 * 1_500 * 5)


def test_passes_that_are_run_again_count_for_each_variant_and_sae() -> None:
    model = replace(MODEL, unembedding_parameters=500)
    method = Method(name="ig", ig_steps=4, exact="all")
    counts = {"read_positions": 2, "variant_tokens": 30, "logprob_tokens": 6}
    counted = work(method, **counts)

    found = estimate.floating_point_operations(model, [sae(1), sae(3)], counted)

    logits = 2 * 500 * 6 * 3  # of the passes themselves
    saes = 2 * 2 * 1_500 * 2
    # Four steps forward and backward, the path's end; seven features, one drawn, all of them
    # together, and none.
    forward, back = 4 + 1 + 10, 4
    again = sum(
        2 * 6_000 * (forward + back) * 30 * layers // 4
        + 2 * 500 * (forward + 2 * back) * 6
        + 2 * 500 * (10 + 1) * 2
        for layers in (3, 1)
    )
    assert found == logits + saes + again


def test_base_prompts_count_as_tokens_and_are_encoded() -> None:
    counted = work(Method(baseline="base"))
    counted.base_prompts.computed_tokens, counted.base_prompts.prompts = 70, 3

    found = estimate.floating_point_operations(MODEL, [sae(1)], counted)

    assert found == 2 * 6_000 * 70 + 2 * 500 * 3


def test_gradients_at_all_tokens_take_more_memory() -> None:
    hooks = ["blocks.1.hook_resid_post"]
    sizes = [SHAPE.bytes_per_token(hooks, tail) for tail in (20, 100, None)]

    assert sizes[0] == SHAPE.bytes_per_token(hooks) <= sizes[1] < sizes[2]
    counted = work(Method(position="all"), largest_batch_tokens=10)
    found = estimate.memory(MODEL, [sae(1)], counted, "cuda", 1 << 40)
    assert found["bytes_per_token"] == round(sizes[2])


def test_memory_is_weights_saes_and_the_widest_batch() -> None:
    counted = work(largest_batch_tokens=1_000, longest_pair_tokens=100)
    per_token = SHAPE.bytes_per_token(["blocks.1.hook_resid_post"])

    found = estimate.memory(MODEL, [sae(1)], counted, "cuda", 1 << 40)

    assert found["peak_bytes"] == round(20_000 + 4_000 + 1_000 * per_token)
    assert found["least_bytes"] == round(20_000 + 4_000 + 100 * per_token)
    on_cpu = estimate.memory(MODEL, [sae(1)], counted, "cpu", 1 << 40)
    assert on_cpu["peak_bytes"] == found["peak_bytes"] + estimate.HOST_BYTES


def test_offloaded_saes_count_one_at_a_time() -> None:
    counted = work()

    found = estimate.memory(MODEL, [sae(1), sae(2), sae(3, 3_000)], counted, "cuda", 60_000)

    assert found["peak_bytes"] == 20_000 + 12_000
    assert found["sae_bytes"] == 20_000


def test_of_an_sae_that_is_lent_in_parts_a_part_counts() -> None:
    wide = sae(1, (1 << 40) // 4)  # of 1 TiB, where 1 TiB is free

    found = estimate.memory(MODEL, [wide], work(), "cuda", 1 << 40)

    assert found["peak_bytes"] == 20_000 + PART_BYTES
    assert found["sae_bytes"] == 1 << 40


def test_an_sae_of_unknown_size_is_not_counted_and_reported() -> None:
    assert estimate.memory(MODEL, [sae(1, None)], work(), "cuda", 1)["sae_bytes"] is None


@pytest.mark.parametrize(
    ("card", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("Tesla T4", None),
        ("NVIDIA A1000", None),
        ("", None),
    ],
)
def test_a_card_has_the_rate_of_its_data_sheet_or_none(card: str, teraflops: int | None) -> None:
    found = estimate.time_needed(MODEL, [sae(1)], work(computed_tokens=10**12), "cuda", card)

    if teraflops is None:
        assert found["seconds"] is None
        assert "no estimate" in found["basis"]
        return
    assert found["rate_flops"] == teraflops * 1e12
    assert f"{teraflops} TFLOP/s" in found["basis"]
    low, high = found["computing_seconds"]
    shares = estimate.GPU_SHARES
    assert high / low == pytest.approx(shares[0] / shares[1], rel=0.1)
    assert found["seconds"][0] == pytest.approx(low + found["loading_seconds"][0], abs=0.2)


def test_a_gpu_has_no_estimate_in_float32() -> None:
    model = Outline("m", None, 256, Shape(4, 4, 2, 8, 32, 64, 4), 1, 1, 1)

    assert estimate.time_needed(model, [], work(), "cuda", "NVIDIA H100")["seconds"] is None


def test_a_cpu_is_measured() -> None:
    model = Outline("m", None, 256, Shape(4, 4, 2, 8, 32, 64, 4), 1, 1, 1)

    found = estimate.time_needed(model, [sae(1)], work(), "cpu", "")

    assert 1e7 < found["rate_flops"] < 1e14
    assert "just now" in found["basis"]


@pytest.mark.parametrize(
    "layout", [None, pytest.param(2, marks=pytest.mark.slow)], ids=["one line", "indented"]
)
@pytest.mark.parametrize(
    ("kind", "saes"),
    first_tier(
        [("standard", 2)],
        [("standard", 1), ("standard", 2), ("transcoder", 2), (tiny.CLT_LAYER, 1)],
    ),
)
def test_the_disk_is_within_a_fifth_of_what_a_run_writes(  # noqa: PLR0913, PLR0917  (fixtures)
    tmp_path: Path,
    model_folder: Callable[[str], Path],
    sae_folder: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    layout: int | None,
    kind: str,
    saes: int,
) -> None:
    path = tmp_path / "answers.json"
    path.write_text(json.dumps({"metadata": {}, "results": tiny.questions(40)}, indent=layout))
    options = [
        str(path),
        f"--model={model_folder('llama')}",
        *(f"--sae={sae_folder(kind, layer=layer)}" for layer in range(saes)),
        f"--out={tmp_path / 'out'}",
        "--save-vectors=float32",
    ]
    main(["check", *options, "--json"])
    found = json.loads(capsys.readouterr().out)["estimate"]["disk"]

    assert main(["run", *options]) == ExitCode.OK
    written = Counter[str]()
    patterns = {
        "journal": "*.jsonl",
        "result": "atp_results_*.json",
        "vectors": "atp_vectors_*/*.safetensors",
    }
    for name, pattern in patterns.items():
        written[name] = sum(file.stat().st_size for file in (tmp_path / "out").glob(pattern))
    for name in patterns:
        assert found[f"{name}_bytes"] == pytest.approx(written[name], rel=0.2), name


def test_float32_is_named_by_its_width() -> None:
    assert torch.float32.itemsize == 2 * SHAPE.element
