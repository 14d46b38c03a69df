"""A GGUF file gives the numbers of the Hugging Face folder that it was made of, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import gguf_files
import pytest
import tiny
import torch
from oracle import Oracle
from tiers import first_tier
from transformers import AutoConfig, AutoModelForCausalLM

from atp import attribute, load_model, load_sae
from atp.errors import UnavailableError
from atp.model.gguf_file import READABLE, gguf_config
from atp.model.outline import outline

FAST = ("llama, scaled", "gemma3, scaled")
GEMMA_27B = {"gemma2": (46, 4608, 32, 128), "gemma3": (62, 5376, 32, 128)}


@pytest.mark.parametrize("name", first_tier(FAST, gguf_files.CONFIGS))
def test_a_gguf_file_gives_the_scores_of_its_folder(tmp_path: Path, name: str) -> None:
    path = gguf_files.save(tmp_path, name)
    sae = tiny.make_sae("topk")
    sae.save_model(tmp_path / "sae")
    oracle = Oracle(str(tmp_path), sae, tiny.HOOK_LAYER)
    analyses = attribute(
        load_model(str(path), device="cpu"), load_sae(str(tmp_path / "sae")), tiny.triples(2)
    )
    for triple, analysis in zip(tiny.triples(2), analyses, strict=True):
        answer = oracle(*triple)
        assert answer is not None
        assert analysis["logit_diff"] == pytest.approx(answer.logit_diff, abs=1e-4)
        for feature in analysis["top_features"]:
            expected = float(answer.scores[int(feature["id"])])
            assert abs(feature["score"] - expected) <= 2e-5 * float(answer.scores.abs().max())


def test_every_readable_architecture_is_compared_with_its_folder() -> None:
    assert {architecture for architecture, *_ in gguf_files.CONFIGS.values()} == set(READABLE)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", GEMMA_27B)
def test_the_largest_gemma_scales_attention_by_another_width(
    tmp_path: Path, architecture: str
) -> None:
    """llama.cpp writes no key for it: https://github.com/ggml-org/llama.cpp knows it by layers."""
    layers, width, heads, head_dim = GEMMA_27B[architecture]
    model_type = gguf_files.CONFIGS[architecture][1]
    sizes = {"num_hidden_layers": layers, "num_attention_heads": heads, "head_dim": head_dim}
    config = AutoConfig.for_model(model_type, **sizes, hidden_size=width, vocab_size=400)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    path = tmp_path / "27b.gguf"
    gguf_files.write(path, architecture, model)
    assert gguf_config(path).query_pre_attn_scalar == width // heads != head_dim


def _write_llama(path: Path, changed: dict[str, Any], **config: Any) -> None:
    """Write a tiny Llama whose file says something else than its model."""
    sizes = gguf_files.CONFIGS["llama"][2] | config
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **sizes))
    gguf_files.write(path, "llama", model, changed)


@pytest.mark.parametrize(
    ("changed", "config", "words"),
    [
        ({"rope.scaling.type": "yarn"}, {}, "scales its positions by yarn"),
        ({}, {"attention_bias": True}, r"LlamaForCausalLM differ in 16 tensors: blk\.0\.attn_k"),
        ({"block_count": 5}, {}, r"differ in 9 tensors: blk\.4\.attn_k"),
    ],
)
def test_a_gguf_file_that_would_be_misread_is_refused(
    tmp_path: Path, changed: dict[str, Any], config: dict[str, Any], words: str
) -> None:
    path = tmp_path / "odd.gguf"
    _write_llama(path, changed, **config)
    with pytest.raises(UnavailableError, match=words) as caught:
        load_model(str(path), device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "parts", "words"),
    [
        ("mamba", 1, "of the architecture mamba.*gemma2, gemma3.*qwen3"),
        ("llama", 3, "one of 3 parts"),
    ],
)
def test_a_gguf_file_that_cannot_be_read_is_refused_by_its_header(
    tmp_path: Path, architecture: str, parts: int, words: str
) -> None:
    path = tmp_path / "some.gguf"
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_uint16("split.count", parts)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(UnavailableError, match=words):
        load_model(str(path), device="cpu")
    with pytest.raises(UnavailableError, match=words):
        outline(str(path), None, torch.float32)
