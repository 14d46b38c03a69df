"""Where transcoders read and write, what the diagnostics say of it, and places that are refused.

Their scores and effects are in tests/scoring/test_written_places.py.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from elsewhere import Elsewhere
from transformer_lens.model_bridge import TransformerBridge

from atp import attribute
from atp.errors import SettingsError

ModelFolder = Callable[[str], Path]
BOUND = 1e-5
KINDS = (*tiny.TRANSCODER_KINDS, tiny.CLT_LAYER)
PAIRS = tiny.triples(2)


def less_its_mean(x: torch.Tensor) -> torch.Tensor:
    return x - x.mean(-1, keepdim=True)


def assert_near(found: torch.Tensor, expected: torch.Tensor, bound: float = BOUND) -> None:
    assert expected.abs().max() > 0
    assert (found - expected).abs().max() <= bound * expected.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_diagnostics_are_of_what_is_written(model_folder: ModelFolder, kind: str) -> None:
    model, sae = str(model_folder("gemma2")), tiny.make_sae(kind)
    layers = range(tiny.HOOK_LAYER, tiny.N_LAYERS if kind == tiny.CLT_LAYER else 2)
    places = [f"{layer}.post_feedforward_layernorm.output" for layer in layers]
    oracle = Elsewhere(model, sae, "1.mlp.input", places)
    (analysis,) = attribute(model, sae, PAIRS[:1], allow_other_model=True)
    (text,) = oracle.texts(*PAIRS[0])
    p = text.prompt_length - 1
    x, written = oracle.values(text)
    y = torch.cat([each[p] for each in written]).detach()
    g = torch.cat([each[p] for each in oracle.gradients_of_writes(text)])
    features = sae.encode(x[p][None]).detach()
    bias = sae.decode(torch.zeros_like(features))[0].detach()
    skip = x[p].detach() @ sae.W_skip.T if "skip" in kind else torch.zeros_like(y)
    error = y - sae.decode(features)[0].detach() - skip
    expected = {
        "variance_explained": 1 - float(error.square().sum() / (y - bias).square().sum()),
        "features": float((sae.decode(features)[0].detach() - bias) @ g),
        "bias": float(bias @ g),
        "sae_error": float(error @ g),
        **({"skip": float(skip @ g)} if "skip" in kind else {}),
    }
    found = {name: analysis["diagnostics"][name] for name in expected}
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert ("skip" in analysis["diagnostics"]) == ("skip" in kind)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (
            "transcoder",
            {"hook_name": "blocks.1.hook_mlp_out", "hook_name_out": "blocks.1.mlp.hook_in"},
            "blocks.1.mlp.hook_in comes before blocks.1.hook_mlp_out",
        ),
        (
            "transcoder",
            {"hook_name_out": "blocks.0.hook_mlp_out"},
            "blocks.0.hook_mlp_out comes before blocks.1.mlp.hook_in",
        ),
        (
            tiny.CLT_LAYER,
            {"hook_name_out": [f"blocks.{layer}.hook_mlp_out" for layer in (1, 3)]},
            "writes to layers 1, 3 of .* a decoder is missing",
        ),
        (
            tiny.CLT_LAYER,
            {"hook_name_out": [f"blocks.{layer}.hook_mlp_out" for layer in (1, 2, 3, 4)]},
            "no hook point 'blocks.4.hook_mlp_out'",
        ),
        ("transcoder", {"hook_name_out": "blocks.1.attn.hook_pattern"}, "fit|read"),
        (
            "transcoder",
            {"hf_hook_name": "model.layers.1.mlp.act_fn.output"},
            "model.layers.1.mlp.act_fn.output, a place in the plain model that atp does not know",
        ),
        ("transcoder", {"model_from_pretrained_kwargs": {"fold_ln": True}}, "processed weights"),
    ],
)
def test_places_that_cannot_be_are_told_in_one_line(
    model_folder: ModelFolder, kind: str, changes: dict[str, Any], message: str
) -> None:
    sae = tiny.make_sae(kind)
    for name, value in changes.items():
        sae.cfg.metadata[name] = value
    with pytest.raises(SettingsError, match=message) as caught:
        attribute(str(model_folder("llama")), sae, PAIRS, allow_other_model=True)
    assert "\n" not in str(caught.value)


def test_the_plain_models_module_says_where_a_transcoder_reads_and_writes(
    model_folder: ModelFolder,
) -> None:
    """As in Gemma Scope 2, whose hook_mlp_in is before the norm by convention."""
    told, meant = tiny.make_sae("transcoder"), tiny.make_sae("transcoder")
    told.cfg.metadata.hook_name = "blocks.1.hook_mlp_in"
    told.cfg.metadata.hf_hook_name = "model.layers.1.pre_feedforward_layernorm.output"
    told.cfg.metadata.hf_hook_name_out = "model.layers.1.post_feedforward_layernorm.output"
    model = str(model_folder("gemma3"))
    one, other = (attribute(model, sae, PAIRS, allow_other_model=True) for sae in (told, meant))
    assert torch.equal(one.scores, other.scores)


def test_an_sae_of_centred_weights_reads_the_stream_less_its_mean(
    model_folder: ModelFolder,
) -> None:
    """That is the stream of the model with centred weights, which says the same."""
    folder = str(model_folder("gpt2"))
    sae = tiny.make_sae("standard")
    sae.cfg.metadata.model_from_pretrained_kwargs = {"center_writing_weights": True}
    oracle = Elsewhere(folder, sae, "1.output", ["1.output"], view=less_its_mean)
    result = attribute(folder, sae, PAIRS, exact="all", top_k=3, allow_other_model=True)
    for number, pair in enumerate(PAIRS):
        answer = oracle(*pair)
        assert answer is not None
        assert_near(result.scores[number], answer.scores)
    centred = TransformerBridge.boot_transformers(folder, device="cpu", dtype=torch.float32)
    with redirect_stdout(StringIO()):
        centred.enable_compatibility_mode(center_writing_weights=True)
    (text,) = oracle.texts(*PAIRS[0])
    hook = "blocks.1.hook_resid_post"
    _, cache = centred.run_with_cache(torch.tensor([text.ids]), names_filter=hook)
    expected = less_its_mean(oracle.values(text)[0])
    torch.testing.assert_close(cache[hook][0], expected, atol=1e-4, rtol=1e-4)


def test_centred_weights_are_of_models_with_layer_norm(model_folder: ModelFolder) -> None:
    sae = tiny.make_sae("standard")
    sae.cfg.metadata.model_from_pretrained_kwargs = {"center_writing_weights": True}
    with pytest.raises(SettingsError, match="RMSNorm"):
        attribute(str(model_folder("llama")), sae, PAIRS, allow_other_model=True)
