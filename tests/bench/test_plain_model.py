"""The plain model computes bit for bit what it computes alone, in the bridge's own memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiers import first_tier
from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent
from transformers import AutoModelForCausalLM

from atp.attribution.batches import Batch
from atp.attribution.capture import capture
from atp.attribution.contrasts import Contrast
from atp.bench.contenders import load_plain_model
from atp.model.language_model import Model
from atp.model.loading import load_model

ModelFolder = Callable[[str], Path]
SPLIT = {"gpt2": ".attn.", "gpt_neox": ".attention."}
"""Where the bridge holds a weight in three parts, and may have renamed others."""

HOOK = "blocks.2.hook_resid_post"
CONTRAST = Contrast((1, 20, 30, 40, 50, 60), prompt_length=4, target_token=70, base_token=80)


@dataclass
class Models:
    """A model behind a bridge, its plain model, and the same model from disk."""

    architecture: str
    model: Model
    plain: Any
    fresh: Any


_loaded: dict[str, tuple[Model, Any]] = {}


@pytest.fixture(params=first_tier(tiny.FAMILIES, tiny.CONFIGS))
def models(request: pytest.FixtureRequest, model_folder: ModelFolder) -> Models:
    """A tiny model of each architecture, loaded once, and a new plain model."""
    folder = str(model_folder(request.param))
    if request.param not in _loaded:
        fresh = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        )
        _loaded[request.param] = load_model(folder, device="cpu"), fresh.eval()
    model, fresh = _loaded[request.param]
    return Models(request.param, model, load_plain_model(model, folder, None), fresh)


def bridge_storages(model: Model) -> set[int]:
    """Return where the weights behind the bridge are in memory."""
    return {p.data_ptr() for p in model.bridge.original_model.parameters()}


def test_its_logits_are_those_of_the_plain_model(models: Models) -> None:
    """Bit for bit, also after the bridge has been used."""
    ids = torch.randint(6, tiny.VOCABULARY, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = models.fresh(ids).logits
        assert torch.equal(models.plain(ids).logits, expected)
        capture(models.model, Batch.of([CONTRAST], torch.device("cpu")), [HOOK])
        assert torch.equal(models.plain(ids).logits, expected)
    assert not models.plain.training


def test_it_has_no_hook_points(models: Models) -> None:
    def bridged(model: Any) -> list[str]:
        return [
            name
            for name, module in model.named_modules()
            if isinstance(module, GeneralizedComponent)
            or type(module).__module__.startswith("transformer_lens")
        ]

    assert bridged(models.model.bridge.original_model)
    assert bridged(models.plain) == []
    assert [type(module) for module in models.plain.modules()] == [
        type(module) for module in models.fresh.modules()
    ]


def own_weights(models: Models) -> set[str]:
    """Return the names of the plain model's weights that are not in the bridge's memory."""
    there = bridge_storages(models.model)
    return {name for name, p in models.plain.named_parameters() if p.data_ptr() not in there}


def test_it_uses_the_bridges_memory_but_for_attention_that_the_bridge_split(models: Models) -> None:
    part = SPLIT.get(models.architecture)
    if part is None:
        assert own_weights(models) == set()
    assert all(part and part in name for name in own_weights(models))


@pytest.mark.parametrize("models", SPLIT, indirect=True)
def test_it_uses_the_bridges_memory_for_every_weight(models: Models) -> None:
    assert own_weights(models) == set()


def test_its_gradients_leave_the_bridge_frozen(models: Models) -> None:
    models.plain.requires_grad_(requires_grad=True)
    models.plain(torch.tensor([CONTRAST.tokens])).logits.sum().backward()
    without = [name for name, p in models.plain.named_parameters() if p.grad is None]
    assert all(
        re.search("vision_tower|multi_modal_projector", name) for name in without
    )  # no image
    behind = list(models.model.bridge.original_model.parameters())
    assert not any(p.requires_grad for p in behind)
    assert all(p.grad is None for p in behind)


def test_it_has_the_bridges_dtype(model_folder: ModelFolder) -> None:
    folder = str(model_folder("llama"))
    model = load_model(folder, device="cpu", dtype="bfloat16")
    plain = load_plain_model(model, folder, None)
    assert {p.dtype for p in plain.parameters()} == {torch.bfloat16}
    assert {p.data_ptr() for p in plain.parameters()} <= bridge_storages(model)
