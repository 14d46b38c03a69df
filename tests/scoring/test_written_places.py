"""Dictionaries that write elsewhere than they read: each way of scoring gives the oracle's numbers.

Transcoders and a layer of a cross-layer transcoder. Bounds as in test_methods.py, and scores with
the defaults within 1e-5 of the largest, as in tests/test_oracle.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import plain_places
import pytest
import tiny
import torch
from elsewhere import Elsewhere
from tiers import first_tier
from torch import Tensor

from atp import ablate, attribute
from atp.model.dictionaries.loading import Dictionary
from atp.model.language_model import Model

BOUND, SUM_BOUND, EFFECT_BOUND, METRIC_BOUND = 1e-5, 1e-4, 1e-4, 1e-4
RESOLUTION = 2e-6
"""Of a difference of float32 logits of these models."""
KINDS = (*tiny.TRANSCODER_KINDS, tiny.CLT_LAYER)
TRIPLES = tiny.triples(2)[1:4]
BASE_PROMPT = tiny.questions(1)[0]["variations"][0]["prompt"]
TOP = 4
Parts = Callable[..., tuple[Model, Dictionary, Elsewhere]]
QUICK_KINDS = ("jumprelu_skip_transcoder", tiny.CLT_LAYER)
some_kinds = pytest.mark.parametrize("kind", first_tier([tiny.CLT_LAYER], QUICK_KINDS))


@pytest.fixture
def parts(model_folder: Callable[[str], Path], loaded: Callable[[str], Model]) -> Parts:
    """Return a function that gives a model, a dictionary, and its oracle."""

    def get(
        kind: str, architecture: str = "gemma2", layer: int = tiny.HOOK_LAYER
    ) -> tuple[Model, Dictionary, Elsewhere]:
        dictionary = Dictionary.of("memory", kind, tiny.make_sae(kind, layer=layer), {})
        last = tiny.N_LAYERS if kind == tiny.CLT_LAYER else layer + 1
        point = "hook_resid_post" if kind in tiny.SAE_KINDS else "hook_mlp_out"
        places = [
            plain_places.place(architecture, f"blocks.{each}.{point}")
            for each in range(layer, last)
        ]
        reads = places[0]
        if kind not in tiny.SAE_KINDS:
            reads = plain_places.place(architecture, f"blocks.{layer}.mlp.hook_in")
        folder = str(model_folder(architecture))
        return loaded(architecture), dictionary, Elsewhere(folder, dictionary.sae, reads, places)

    return get


def told(analysis: dict[str, Any], name: str) -> tuple[list[int], Tensor]:
    """Return the listed features, and a number of each."""
    features = analysis["top_features"]
    return [int(each["id"]) for each in features], torch.tensor([each[name] for each in features])


def assert_close(found: Tensor, expected: Tensor, bound: float) -> None:
    """Compare with a share of the largest."""
    assert expected.abs().max() > 0
    assert (found - expected).abs().max() <= bound * expected.abs().max() + RESOLUTION


def assert_scores(parts: tuple[Model, Dictionary, Elsewhere]) -> None:
    """Compare all scores, each pair alone and all in one batch."""
    model, dictionary, oracle = parts
    for batch_tokens in (1, 5000):
        result = attribute(model, dictionary, TRIPLES, batch_tokens=batch_tokens)
        for triple, analysis, scores in zip(TRIPLES, result, result.scores, strict=True):
            answer = oracle(*triple)
            assert answer is not None
            assert analysis["logit_diff"] == pytest.approx(answer.logit_diff, abs=METRIC_BOUND)
            largest = answer.scores.abs().max()
            assert largest > 0
            assert (scores - answer.scores).abs().max() <= BOUND * largest


@pytest.mark.parametrize("kind", first_tier(QUICK_KINDS, KINDS))
def test_scores_of_every_kind(parts: Parts, kind: str) -> None:
    assert_scores(parts(kind))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", tiny.CONFIGS)
@pytest.mark.parametrize("kind", QUICK_KINDS)
def test_scores_on_every_architecture(parts: Parts, architecture: str, kind: str) -> None:
    assert_scores(parts(kind, architecture))


@pytest.mark.slow
@pytest.mark.parametrize("layer", [0, 2, 3])
@pytest.mark.parametrize("kind", QUICK_KINDS)
def test_scores_at_every_layer(parts: Parts, layer: int, kind: str) -> None:
    """Above the last layer's MLP only the position itself is read."""
    assert_scores(parts(kind, layer=layer))


@pytest.mark.parametrize("kind", first_tier(QUICK_KINDS, KINDS))
def test_effects_of_features_that_are_removed(parts: Parts, kind: str) -> None:
    model, dictionary, oracle = parts(kind)
    for triple, analysis in zip(
        TRIPLES, attribute(model, dictionary, TRIPLES, exact="all", top_k=TOP), strict=True
    ):
        ids, effects = told(analysis, "effect")
        texts = oracle.texts(*triple)
        assert_close(effects, torch.tensor([oracle.effect(texts, [i]) for i in ids]), EFFECT_BOUND)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", tiny.CONFIGS)
def test_effects_on_every_architecture(parts: Parts, architecture: str) -> None:
    model, dictionary, oracle = parts(tiny.CLT_LAYER, architecture)
    (analysis,) = attribute(model, dictionary, TRIPLES[:1], exact="all", top_k=TOP)
    ids, effects = told(analysis, "effect")
    texts = oracle.texts(*TRIPLES[0])
    assert_close(effects, torch.tensor([oracle.effect(texts, [i]) for i in ids]), EFFECT_BOUND)


@some_kinds
def test_effects_measured_from_the_base_prompt(parts: Parts, kind: str) -> None:
    model, dictionary, oracle = parts(kind)
    (analysis,) = attribute(
        model,
        dictionary,
        TRIPLES[:1],
        base_prompts=[BASE_PROMPT],
        baseline="base",
        exact="all",
        top_k=TOP,
    )
    (on_base,) = oracle.texts(BASE_PROMPT, *TRIPLES[0][1:])
    baseline = oracle.encode(oracle.values(on_base)[0][on_base.prompt_length - 1])
    texts = oracle.texts(*TRIPLES[0])
    _, features, gradient = oracle.gradient(texts[0])
    scores = (features - baseline) * gradient
    ids, effects = told(analysis, "effect")
    assert_close(told(analysis, "score")[1], scores[ids], SUM_BOUND)
    expected = torch.tensor([oracle.effect(texts, [i], baseline) for i in ids])
    assert_close(effects, expected, EFFECT_BOUND)


@some_kinds
def test_integrated_gradients(parts: Parts, kind: str) -> None:
    model, dictionary, oracle = parts(kind)
    steps = 4
    result = attribute(model, dictionary, TRIPLES, method="ig", ig_steps=steps)
    for triple, analysis, found in zip(TRIPLES, result, result.scores, strict=True):
        texts = oracle.texts(*triple)
        total = torch.zeros(tiny.D_SAE)
        for k in range(steps):
            share = (k + 0.5) / steps
            _, features, gradient = oracle.gradient(texts[0], lambda f, share=share: share * f)
            total += gradient / steps
        assert_close(found, features * total, SUM_BOUND)
        change = oracle.metric(texts) - oracle.metric(texts, torch.zeros_like)
        assert analysis["diagnostics"]["path"]["change"] == pytest.approx(change, abs=METRIC_BOUND)


@pytest.mark.parametrize("position", first_tier(["tail"], ["last", "tail", "all"]))
@pytest.mark.parametrize("sequence_tokens", first_tier([3], [None, 3]))
@some_kinds
def test_positions_and_sequences(
    parts: Parts, kind: str, position: str, sequence_tokens: int | None
) -> None:
    model, dictionary, oracle = parts(kind)
    triple = TRIPLES[0]
    result = attribute(
        model,
        dictionary,
        [triple],
        position=position,
        sequence_tokens=sequence_tokens,
        exact="all",
        top_k=TOP,
    )
    analysis, texts = result[0], oracle.texts(*triple, sequence_tokens)
    p = texts[0].prompt_length - 1
    ends = [p + analysis["token_position"] - 1]
    if sequence_tokens:
        ends = [p + n - 1 for n in analysis["sequence_tokens"]]
    places = {
        "last": [[p] for _ in ends],
        "tail": [[*range(p, end + 1)] for end in ends],
        "all": [[*range(1, p + 1)] for _ in ends],
    }[position]
    total = torch.zeros(tiny.D_SAE)
    for text, positions in zip(texts, places, strict=True):
        for at in positions:
            _, features, gradient = oracle.gradient(text, at=at)
            total += features * gradient
    assert_close(result.scores[0], total, SUM_BOUND)
    ids, effects = told(analysis, "effect")
    expected = torch.tensor([oracle.effect(texts, [i], at=places) for i in ids])
    assert_close(effects, expected, EFFECT_BOUND)


@pytest.mark.parametrize("kind", first_tier([tiny.CLT_LAYER], KINDS))
@pytest.mark.parametrize("first", [False, True])
def test_an_ablated_model_is_the_plain_one_without_the_features(
    parts: Parts, kind: str, first: bool
) -> None:
    model, dictionary, oracle = parts(kind)
    off = list(range(0, tiny.D_SAE, 3))

    def without(features: Tensor) -> Tensor:
        features = features.clone()
        features[off] = 0
        return features

    (text,) = oracle.texts(*TRIPLES[0])
    ids = torch.tensor([text.ids])
    at = range(0 if first else 1, len(text.ids))
    with torch.no_grad():
        with oracle.features_changed(without, at):
            expected = oracle.model(ids).logits
        with ablate(model, dictionary, off, first_position=first):
            found = model.bridge.original_model(ids).logits
        unchanged = oracle.model(ids).logits
    assert (found - expected).abs().max() <= METRIC_BOUND
    assert (expected - unchanged).abs().max() > 100 * METRIC_BOUND


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
def test_several_dictionaries_in_one_pass_change_nothing(parts: Parts, architecture: str) -> None:
    """One reads where another writes, and two write to one place."""
    model, *_ = parts("standard", architecture)
    chosen = [
        parts(tiny.CLT_LAYER, architecture, layer=0),
        parts("transcoder", architecture, layer=2),
        parts(tiny.CLT_LAYER, architecture, layer=2),
        parts("topk", architecture, layer=1),
        parts("standard", architecture, layer=3),
    ]
    saes = [
        Dictionary.of("memory", f"number{number}", dictionary.sae, {})
        for number, (_, dictionary, _) in enumerate(chosen)
    ]
    result = attribute(model, saes, TRIPLES, exact="all", top_k=TOP)
    for number, (_, _, oracle) in enumerate(chosen):
        one = result[f"number{number}"]
        for triple, analysis, scores in zip(TRIPLES, one.analyses, one.scores, strict=True):
            answer = oracle(*triple)
            assert answer is not None
            assert (scores - answer.scores).abs().max() <= BOUND * answer.scores.abs().max()
            ids, effects = told(analysis, "effect")
            texts = oracle.texts(*triple)
            expected = torch.tensor([oracle.effect(texts, [i]) for i in ids])
            assert_close(effects, expected, EFFECT_BOUND)
