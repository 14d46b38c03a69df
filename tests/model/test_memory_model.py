"""The default token budget follows the free memory and what a token takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tiny
import torch

from atp.model import memory_model
from atp.model.dictionaries.loading import Dictionary
from atp.model.dictionaries.placement import Dictionaries
from atp.model.language_model import Model
from atp.model.memory_model import Shape


@pytest.fixture(scope="module")
def model(loaded: Callable[[str], Model]) -> Model:
    """A tiny Gemma-2."""
    return loaded("gemma2")


def saes(model: Model, layer: int) -> Dictionaries:
    """Return one SAE after a layer."""
    sae = tiny.make_sae("standard", layer=layer)
    return Dictionaries([Dictionary("m", "m", sae.cfg.metadata.hook_name, sae, {})], model.device)


@pytest.mark.parametrize("fitting", [300, 511, 512, 1000, 1500])
def test_it_is_the_largest_power_of_two_that_fits(
    model: Model, monkeypatch: pytest.MonkeyPatch, fitting: int
) -> None:
    placed = saes(model, 1)
    hf_model = model.bridge.original_model
    shape = Shape.of(model.bridge.cfg, model.dtype.itemsize, hf_model)
    each = shape.bytes_per_token(placed.written_points)
    free = (fitting + 0.5) * each / memory_model.BATCH_SHARE
    monkeypatch.setattr(memory_model, "free_bytes", lambda device: free)
    found = memory_model.batch_tokens(model, placed)
    assert found & (found - 1) == 0
    assert found <= fitting < 2 * found


@pytest.mark.parametrize(
    ("free", "expected"),
    [(0, memory_model.MIN_BATCH_TOKENS), (1 << 50, memory_model.MAX_BATCH_TOKENS["cpu"])],
)
def test_it_stays_within_bounds(
    model: Model, monkeypatch: pytest.MonkeyPatch, free: int, expected: int
) -> None:
    monkeypatch.setattr(memory_model, "free_bytes", lambda device: free)
    assert memory_model.batch_tokens(model, saes(model, 1)) == expected


def test_the_estimate_for_gemma_2_9b_covers_what_was_counted() -> None:
    """Counted under fake tensors (benchmarks/gemma2_9b_simulated.py), KiB a token at the most."""
    shape_of_gemma = Shape(42, 16, 8, 256, 3584, 14336, torch.bfloat16.itemsize)
    for layer, counted in ((31, 524), (9, 1288)):
        taken = shape_of_gemma.bytes_per_token([f"blocks.{layer}.hook_resid_post"]) / 1024
        assert counted <= taken <= 1.1 * counted


def test_whole_texts_have_gradients_and_mamba_makes_states_for_every_token(
    loaded: Callable[[str], Model],
) -> None:
    """Counted with LiveBytes (benchmarks/live_bytes.py): 118 KiB a token and layer, by 512 x 16."""
    model = loaded("mamba")
    found = Shape.of(model.bridge.cfg, 4, model.bridge.original_model)
    assert found.whole
    assert found.state == 2 * tiny.D_MODEL * 8
    mamba = Shape(4, 1, 1, 256, 256, 512, 4, whole=True, state=512 * 16)
    taken = mamba.bytes_per_token(["blocks.0.hook_resid_post"]) / 1024
    assert 4 * 118 <= taken <= 1.5 * 4 * 118
    attention = Shape(4, 4, 2, 8, 32, 64, 4)
    plain = Shape(4, 4, 2, 8, 32, 64, 4, whole=True)
    for tail in (20, None):
        everywhere = attention.bytes_per_token(["blocks.1.hook_resid_post"], None)
        assert plain.bytes_per_token(["blocks.1.hook_resid_post"], tail) <= everywhere
