"""Which features are removed for real, by the plain model; and what is said of the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from rerun import Rerun
from tiers import first_tier
from torch import Tensor, nn

from atp import attribute, load_model
from atp.bench.notebook import layers_of
from atp.model.dictionaries.loading import Dictionary
from atp.model.language_model import Model
from atp.stats.tolerance import upper_bound

BOUND = 1e-4
RESOLUTION = 2e-6
TRIPLES = tiny.triples(2)
NORMS = {
    "gpt2": ("ln_1", "ln_2"),
    "gemma2": ("input_layernorm", "pre_feedforward_layernorm"),
    "gemma3": ("input_layernorm", "pre_feedforward_layernorm"),
    "gemma3_multimodal": ("input_layernorm", "pre_feedforward_layernorm"),
    "olmo2": (),  # its norms read what a part adds to the stream, and never the stream
}
"""Those that read the residual stream; of other architectures, these two:"""
OTHERS = ("input_layernorm", "post_attention_layernorm")
Parts = tuple[Model, Dictionary, Rerun, Tensor]


@pytest.fixture
def parts(tmp_path: Path) -> Callable[..., Parts]:
    """Return a function that gives a model with norms of random weights, and w of its next ones."""

    def get(architecture: str = "gemma2", kind: str = "standard") -> Parts:
        folder = tiny.save_model(tmp_path / architecture, architecture)
        sae = tiny.make_sae(kind)
        plain = Rerun(str(folder), sae, tiny.HOOK_LAYER)
        torch.manual_seed(7)
        squares = []
        for number, layer in enumerate(layers_of(plain.model)):
            for name in NORMS.get(architecture, OTHERS):
                norm: Any = getattr(layer, name)
                nn.init.uniform_(norm.weight, 0.1, 2)
                if number == tiny.HOOK_LAYER + 1:
                    weights = norm.weight + (1 if architecture.startswith("gemma") else 0)
                    squares.append((weights / weights.norm()).square())
        plain.model.save_pretrained(folder)
        even = torch.ones(tiny.D_MODEL)
        w = (sum(squares) / 2).sqrt().detach() if squares else even  # type: ignore[union-attr]
        dictionary = Dictionary("memory", "tiny", sae.cfg.metadata.hook_name, sae, {})
        return load_model(str(folder), device="cpu"), dictionary, plain, w

    return get


def sizes(plain: Rerun, x: Tensor, w: Tensor, baseline: Tensor | None = None) -> Tensor:
    """Return the relative size of every feature: what x loses with it, as the norms weight it."""
    features = plain.features(x)
    found = []
    for i in range(len(features)):
        changed = features.clone()
        changed[i] = 0 if baseline is None else baseline[i]
        found.append((w * (x - plain.moved(x, changed))).norm() / (w * x).norm())
    return torch.stack(found)


def told(analysis: dict[str, Any], name: str) -> dict[int, float]:
    """Return a number of each listed feature that has it."""
    return {int(each["id"]): each[name] for each in analysis["top_features"] if name in each}


def assert_close(found: dict[int, float], expected: Tensor) -> None:
    """Compare with a share of the largest."""
    ids = list(found)
    gap = (torch.tensor(list(found.values())) - expected[ids]).abs().max()
    assert gap <= BOUND * expected.abs().max() + RESOLUTION


@pytest.mark.parametrize("architecture", first_tier(["gemma3", "gpt_neox"], tiny.CONFIGS))
def test_relative_sizes_are_those_that_the_next_norms_see(
    parts: Callable[..., Parts], architecture: str
) -> None:
    model, dictionary, plain, w = parts(architecture)
    analyses = attribute(model, dictionary, TRIPLES[:2], top_k=tiny.D_SAE)
    for triple, analysis in zip(TRIPLES, analyses, strict=False):
        (text,) = plain.texts(*triple)
        expected = sizes(plain, plain.residuals(text)[text.prompt_length - 1], w)
        assert_close(told(analysis, "relative_size"), expected)


@pytest.mark.parametrize("kind", first_tier(["standard", "topk, layer_norm"], tiny.SAE_KINDS))
def test_relative_sizes_and_flagged_effects_of_every_sae_kind(
    parts: Callable[..., Parts], kind: str
) -> None:
    model, dictionary, plain, w = parts(kind=kind)
    (text,) = plain.texts(*TRIPLES[0])
    p = text.prompt_length - 1
    expected = sizes(plain, plain.residuals(text)[p], w)
    above = 1.001 * float(expected[expected > 1e-4].quantile(0.8))  # no size is on the edge
    how: dict[str, Any] = {"exact": "flagged", "exact_above": above, "top_k": tiny.D_SAE}
    (analysis,) = attribute(model, dictionary, TRIPLES[:1], **how)
    assert_close(told(analysis, "relative_size"), expected)
    sample = analysis["diagnostics"]["exact"]["sample"]
    effects = told(analysis, "effect")
    assert set(effects) == {*(expected > above).nonzero()[:, 0].tolist(), int(sample["id"])}
    whole = plain.metric([text])
    without = torch.zeros(tiny.D_SAE)
    for i in effects:
        without[i] = whole - plain.metric([text], [plain.without([i], [p])])
    assert_close(effects, without)


@pytest.mark.parametrize("architecture", first_tier(["llama"], tiny.FAMILIES))
def test_the_list_holds_the_largest_effects_where_they_are_measured_and_scores_elsewhere(
    parts: Callable[..., Parts], architecture: str
) -> None:
    model, dictionary, plain, w = parts(architecture)
    above, k = 0.3, 10
    analyses = attribute(
        model, dictionary, TRIPLES, exact="flagged", exact_above=above, top_k=k, batch_tokens=300
    )
    entered = 0
    for triple, analysis in zip(TRIPLES, analyses, strict=True):
        (text,) = plain.texts(*triple)
        p = text.prompt_length - 1
        x, g = plain.residuals(text)[p], plain.gradients(text)[p]
        scores = plain.features(x) * plain.per_feature(x, g)
        size, exact = sizes(plain, x, w), analysis["diagnostics"]["exact"]
        flagged = (size > above).nonzero()[:, 0].tolist()
        sample = int(exact["sample"]["id"])
        whole = plain.metric([text])
        effects = {
            i: whole - plain.metric([text], [plain.without([i], [p])]) for i in [*flagged, sample]
        }
        best = scores.clone()
        best[list(effects)] = torch.tensor(list(effects.values()))
        listed = best.abs().topk(k).indices.tolist()
        assert set(told(analysis, "score")) == set(listed)
        assert_close(told(analysis, "score"), scores)
        assert_close(told(analysis, "effect"), best)
        assert set(told(analysis, "effect")) == set(listed) & set(effects)
        for each in analysis["top_features"]:
            assert each["ranked_by"] == ("effect" if int(each["id"]) in effects else "score")
        order = [abs(each.get("effect", each["score"])) for each in analysis["top_features"]]
        assert order == sorted(order, reverse=True)
        entered += len(set(listed) - set(scores.abs().topk(k).indices.tolist()))
        active = int((plain.features(x) != 0).sum())
        assert exact["flagged"] == len(flagged)
        assert exact["features"] == len(flagged) + 1
        assert exact["unchecked"] == active - len(flagged) - 1
        assert exact["error_scale"] == pytest.approx(float((x * g).abs().sum()), rel=1e-4)
        assert exact["sample"]["score"] == pytest.approx(float(scores[sample]), abs=1e-5)
        assert exact["sample"]["effect"] == pytest.approx(effects[sample], abs=1e-5)
        assert "joint_effect" not in exact
    assert entered > 0


def test_where_all_are_removed_a_feature_without_an_effect_is_listed_before_one_not_removed(
    parts: Callable[..., Parts],
) -> None:
    """The last active feature hardly writes: its score is no 0, but its effect is."""
    model, dictionary, plain, _ = parts("llama")
    (text,) = plain.texts(*TRIPLES[0])
    active = plain.features(plain.residuals(text)[text.prompt_length - 1]).nonzero()[:, 0]
    with torch.no_grad():
        dictionary.sae.W_dec[active[-1]] *= 1e-12
    (analysis,) = attribute(model, dictionary, TRIPLES[:1], exact="all", top_k=len(active))
    assert told(analysis, "effect")[int(active[-1])] == 0
    assert set(told(analysis, "effect")) == set(active.tolist())


def test_a_baseline_makes_it_the_size_of_the_difference(parts: Callable[..., Parts]) -> None:
    model, dictionary, plain, w = parts()
    base = tiny.questions(1)[0]["variations"][0]["prompt"]
    (analysis,) = attribute(
        model, dictionary, TRIPLES[:1], base_prompts=[base], baseline="base", top_k=tiny.D_SAE
    )
    (text,) = plain.texts(*TRIPLES[0])
    baseline = torch.zeros(tiny.D_SAE)
    for i, activation in told(analysis, "base_activation").items():
        baseline[i] = activation
    x = plain.residuals(text)[text.prompt_length - 1]
    assert_close(told(analysis, "relative_size"), sizes(plain, x, w, baseline))


@pytest.mark.slow
def test_over_several_positions_it_is_the_largest(parts: Callable[..., Parts]) -> None:
    model, dictionary, plain, w = parts("llama")
    (analysis,) = attribute(
        model, dictionary, TRIPLES[:1], position="all", exact="flagged", top_k=tiny.D_SAE
    )
    (text,) = plain.texts(*TRIPLES[0])
    places = range(1, text.prompt_length)
    x, g = plain.residuals(text), plain.gradients(text)
    largest = torch.stack([sizes(plain, x[p], w) for p in places]).amax(dim=0)
    assert_close(told(analysis, "relative_size"), largest)
    scale = float((x[1 : text.prompt_length] * g[1 : text.prompt_length]).abs().sum())
    assert analysis["diagnostics"]["exact"]["error_scale"] == pytest.approx(scale, rel=1e-4)


def test_above_the_last_layer_the_final_norm_weights_and_elsewhere_nothing(
    parts: Callable[..., Parts],
) -> None:
    model, *_ = parts("gemma2")
    weights = model.next_norm_weights(f"blocks.{tiny.N_LAYERS - 1}.hook_resid_post")
    final = 1 + model.bridge.original_model.base_model.norm.weight
    assert weights is not None
    torch.testing.assert_close(weights, final / final.norm(), rtol=1e-4, atol=1e-6)
    assert model.next_norm_weights("blocks.1.attn.hook_z") is None


def test_a_bound_of_a_sample_holds_for_as_many_of_all_as_it_says() -> None:
    """Of 1,000 samples, at least nine in ten give a bound for 95 % of the population."""
    random = np.random.default_rng(0)
    assert upper_bound(random.random(44).tolist()) is None
    for n in (45, 63, 500):
        bounds = np.array([upper_bound(random.random(n).tolist()) for _ in range(1000)])
        assert 0.88 <= (bounds >= 0.95).mean() <= 1  # of a uniform population, the bound itself
    assert upper_bound([float(i) for i in range(1, 1001)]) == 960
