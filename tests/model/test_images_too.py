"""Of a model that reads images, too, the language model is run; nothing is installed for images."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
)

from atp.attribution.capture import check_split_pass
from atp.model.loading import load_model
from atp.model.outline import outline

VISION = {
    "gemma3": {"num_hidden_layers": 1, "image_size": 28, "patch_size": 14},
    "qwen3_5": {"depth": 1, "num_heads": 2, "out_hidden_size": tiny.D_MODEL, "patch_size": 4},
}
CLASSES: dict[str, Any] = {
    "gemma3": (Gemma3Config, Gemma3ForConditionalGeneration),
    "qwen3_5": (Qwen3_5Config, Qwen3_5ForConditionalGeneration),
}


@pytest.mark.parametrize("architecture", CLASSES)
def test_it_gives_the_logits_of_the_whole_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    config, whole = CLASSES[architecture]
    text = {**tiny.CONFIGS, **tiny.STATEFUL}[architecture]().to_dict()
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    torch.manual_seed(1)
    model = whole(config(text_config=text, vision_config=vision | VISION[architecture])).eval()
    folder = tmp_path / "tiny"
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)

    def no_install(*arguments: object, **_: object) -> None:
        pytest.fail(f"runs {arguments}")

    monkeypatch.setattr(subprocess, "check_call", no_install)
    found = load_model(str(folder), device="cpu")
    ids = torch.arange(7, 27)[None]
    with torch.no_grad():
        logits = found.bridge.original_model(input_ids=ids).logits
        torch.testing.assert_close(logits, model(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
    check_split_pass(found, ["blocks.1.hook_resid_post"])
    plain = AutoModelForCausalLM.from_pretrained(folder)
    described = outline(str(folder), None, torch.float32)
    assert described.parameters == sum(weight.numel() for weight in plain.parameters())
    assert described.shape.whole == (architecture == "qwen3_5")
