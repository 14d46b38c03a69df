"""A model that also sees is loaded as a language model: nothing is installed for its images."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from elsewhere import Elsewhere
from transformers import AutoModelForImageTextToText, Qwen3_5Config

from atp import attribute, load_model
from atp.model.dictionaries.loading import Dictionary


def test_loading_one_starts_no_process(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TransformerLens would install torchvision with pip, and a CUDA build of torch with it."""
    started: list[object] = []
    monkeypatch.setattr(subprocess, "check_call", started.append)
    load_model(str(model_folder("gemma3_multimodal")), device="cpu")
    assert started == []


def test_qwen3_5_as_published_is_scored(tmp_path: Path) -> None:
    """Its bridge as a whole asks for torchvision; the language model inside it needs none."""
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": tiny.D_MODEL,
    }
    text = tiny.STATEFUL["qwen3_5"]().to_dict()
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(
        Qwen3_5Config(text_config=text, vision_config=vision)
    )
    folder = tmp_path / "tiny"
    model.save_pretrained(folder)
    tiny.tokenizer(bos=False).save_pretrained(folder)
    sae = tiny.make_sae("topk")
    triples = tiny.triples(1)

    loaded = load_model(str(folder), device="cpu")
    result = attribute(loaded, Dictionary.of("memory", "tiny", sae, {}), triples)

    oracle = Elsewhere(str(folder), sae, "1.output", ["1.output"])
    for triple, scores in zip(triples, result.scores, strict=True):
        answer = oracle(*triple)
        assert answer is not None
        largest = answer.scores.abs().max()
        assert largest > 0
        assert (scores - answer.scores).abs().max() <= 1e-5 * largest
