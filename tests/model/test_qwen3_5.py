"""Qwen3.5 is published as a model that also sees: its language model alone is loaded and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import (
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
)

from atp.attribution.capture import check_split_pass
from atp.model.loading import load_model, load_plain
from atp.model.outline import outline

VISION = {
    "depth": 1,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_heads": 2,
    "out_hidden_size": tiny.D_MODEL,
    "patch_size": 4,
}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
CLASSES: dict[str, tuple[Any, Any, dict[str, int]]] = {
    "dense": (Qwen3_5Config, Qwen3_5ForConditionalGeneration, {}),
    "experts": (Qwen3_5MoeConfig, Qwen3_5MoeForConditionalGeneration, EXPERTS),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_it_gives_the_logits_of_the_whole_model(tmp_path: Path, kind: str) -> None:
    config, whole, more = CLASSES[kind]
    text = tiny.STATEFUL["qwen3_5"]().to_dict() | more
    del text["model_type"]
    torch.manual_seed(1)
    model = whole(config(text_config=text, vision_config=VISION)).eval()
    folder = tmp_path / "tiny"
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)

    found = load_model(str(folder), device="cpu")
    ids = torch.arange(7, 27)[None]
    with torch.no_grad():
        logits = found.bridge.original_model(input_ids=ids).logits
        torch.testing.assert_close(logits, model(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
    check_split_pass(found, ["blocks.1.hook_resid_post"])
    described = outline(str(folder), None, torch.float32)
    plain = load_plain(str(folder), None, torch.device("cpu"), torch.float32)
    assert described.parameters == sum(weight.numel() for weight in plain.parameters())
    assert described.shape.whole
