"""Leaving out what nobody watches changes no result, and what is watched is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from tiers import first_tier
from transformer_lens.model_bridge import TransformerBridge

from atp.model.language_model import Model

IDS = torch.arange(7, 27)[None]


@pytest.mark.parametrize("architecture", first_tier(tiny.FAMILIES, tiny.CONFIGS))
def test_a_model_gives_what_its_untouched_bridge_gives(
    model_folder: Callable[[str], Path], loaded: Callable[[str], Model], architecture: str
) -> None:
    folder, model = str(model_folder(architecture)), loaded(architecture)
    bridge = TransformerBridge.boot_transformers(folder, dtype=torch.float32, device="cpu").eval()
    with torch.no_grad():
        ours, theirs = model.bridge.original_model(IDS), bridge.original_model(IDS)
    assert torch.equal(ours.logits, theirs.logits)
    sees = architecture == "gemma3_multimodal"  # only the text model inside it keeps attentions
    assert (theirs.attentions is None) == sees
    assert ours.attentions is None


@pytest.mark.parametrize("architecture", first_tier(tiny.FAMILIES, tiny.CONFIGS))
@pytest.mark.parametrize("name", ["hook_scale", "hook_normalized"])
def test_a_watched_norm_fires_and_can_be_changed(
    loaded: Callable[[str], Model], architecture: str, name: str
) -> None:
    model = loaded(architecture)
    seen: list[torch.Tensor] = []

    def watch(x: torch.Tensor, hook: object) -> torch.Tensor:
        del hook
        seen.append(x)
        return 2 * x

    with torch.no_grad():
        before = model.bridge.original_model(IDS).logits
        with model.hooks([(f"blocks.1.ln1.{name}", watch)]):
            changed = model.bridge.original_model(IDS).logits
        after = model.bridge.original_model(IDS).logits
    assert len(seen) == 1
    assert seen[0].shape[:2] == IDS.shape
    assert not torch.allclose(before, changed)
    # Not to the bit: a matrix product's last bits may depend on where its operands lie in memory.
    torch.testing.assert_close(after, before)
