"""The reference for dictionaries that write elsewhere is the formula, and the notebook's for SAEs.

score_i = f_i * sum over the written places w of d_i^w . g_w, with g_w = dm/dy_w of a pass without
the dictionary.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from elsewhere import Elsewhere
from oracle import Oracle

ModelFolder = Callable[[str], Path]
BOUND = 1e-5


@pytest.mark.parametrize("kind", [*tiny.TRANSCODER_KINDS, tiny.CLT_LAYER])
def test_scores_are_the_products_of_each_written_place(
    model_folder: ModelFolder, kind: str
) -> None:
    sae = tiny.make_sae(kind)
    layers = range(tiny.HOOK_LAYER, tiny.N_LAYERS if kind == tiny.CLT_LAYER else 2)
    places = [f"{layer}.mlp.output" for layer in layers]
    oracle = Elsewhere(str(model_folder("llama")), sae, "1.mlp.input", places)
    directions = sae.W_dec.detach().unflatten(1, (len(layers), tiny.D_MODEL))
    for triple in tiny.triples(1):
        answer = oracle(*triple)
        assert answer is not None
        (text,) = oracle.texts(*triple)
        p = text.prompt_length - 1
        features = sae.encode(oracle.values(text)[0][p][None])[0].detach()
        g = torch.stack([each[p] for each in oracle.gradients_of_writes(text)])
        scores = features * torch.einsum("swd,wd->s", directions, g)
        largest = scores.abs().max()
        assert largest > 0
        assert (answer.scores - scores).abs().max() <= BOUND * largest


@pytest.mark.parametrize("kind", tiny.SAE_KINDS)
def test_of_an_sae_it_is_the_notebooks(model_folder: ModelFolder, kind: str) -> None:
    folder, sae = str(model_folder("llama")), tiny.make_sae(kind)
    triple = tiny.triples(1)[0]
    answer = Elsewhere(folder, sae, "1.output", ["1.output"])(*triple)
    expected = Oracle(folder, sae, 1)(*triple)
    assert answer is not None
    assert expected is not None
    assert answer.logit_diff == pytest.approx(expected.logit_diff, abs=1e-5)
    gap = (answer.scores - expected.scores).abs().max()
    assert gap <= BOUND * expected.scores.abs().max()


def test_a_small_feature_has_the_effect_that_its_score_says(model_folder: ModelFolder) -> None:
    """To first order: with a decoder a hundredth as long, the gap is of second order."""
    sae = tiny.make_sae(tiny.CLT_LAYER)
    with torch.no_grad():
        sae.W_dec *= 0.01
    places = [f"{layer}.mlp.output" for layer in range(tiny.HOOK_LAYER, tiny.N_LAYERS)]
    oracle = Elsewhere(str(model_folder("llama")), sae, "1.mlp.input", places)
    for triple in tiny.triples(1):
        answer = oracle(*triple)
        assert answer is not None
        texts = oracle.texts(*triple)
        best = answer.scores.abs().topk(5).indices.tolist()
        effects = torch.tensor([oracle.effect(texts, [i]) for i in best])
        torch.testing.assert_close(effects, answer.scores[best], rtol=0.02, atol=2e-5)
