"""Methods, baselines, positions, contrasts and exact effects are those of the plain model, re-run.

Bounds, float32: effects within 1e-4 of the largest of the pair and what a float32 logit can tell,
scores within 1e-4 of its largest (1e-5 in tests/test_oracle.py, with the defaults), the metric
within 1e-4.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from rerun import Rerun
from scipy import stats
from tiers import first_tier

from atp import attribute, exact_effects
from atp.errors import SettingsError
from atp.model.dictionaries.loading import Dictionary
from atp.model.language_model import Model

Triple = tuple[str, str, str]
EFFECT_BOUND, SUM_BOUND, METRIC_BOUND = 1e-4, 1e-4, 1e-4
RESOLUTION = 2e-6
"""Of a difference of float32 logits of these models."""
TRIPLES = tiny.triples(2)
BASE_PROMPTS = [
    question["variations"][0]["prompt"] for question in tiny.questions(2) for _ in tiny.OPINIONS
]
TOP = 6
ALL: dict[str, Any] = {"exact": "all", "exact_above": 1e9, "top_k": TOP}
"""No feature has that relative size: none is flagged."""
every_architecture = pytest.mark.parametrize(
    "architecture",
    first_tier(["gemma2", "qwen2"], [*tiny.CONFIGS, *tiny.STATEFUL]),
)
differing_architectures = pytest.mark.parametrize(
    "architecture",
    first_tier(["gemma2", "qwen2"], [*tiny.FAMILIES, "qwen3_5", "jamba", "mamba2"]),
)
"""Those that differ most: on all others, scores and effects are compared with the defaults."""
Parts = Callable[..., tuple[Model, Dictionary, Rerun]]


@pytest.fixture
def parts(model_folder: Callable[[str], Path], loaded: Callable[[str], Model]) -> Parts:
    """Return a function that gives a model, an SAE, and the plain model to compare with."""

    def get(architecture: str = "llama", kind: str = "standard") -> tuple[Model, Dictionary, Rerun]:
        sae = tiny.make_sae(kind)
        dictionary = Dictionary("memory", "tiny", sae.cfg.metadata.hook_name, sae, {})
        plain = Rerun(str(model_folder(architecture)), sae, tiny.HOOK_LAYER)
        return loaded(architecture), dictionary, plain

    return get


def ids_of(analysis: dict[str, Any]) -> list[int]:
    """Return the listed features."""
    return [int(feature["id"]) for feature in analysis["top_features"]]


def values(analysis: dict[str, Any], name: str) -> torch.Tensor:
    """Return a number of the listed features."""
    return torch.tensor([feature[name] for feature in analysis["top_features"]])


def assert_close(found: torch.Tensor, expected: torch.Tensor, bound: float) -> None:
    """Compare with a share of the largest."""
    assert expected.abs().max() > 0
    assert (found - expected).abs().max() <= bound * expected.abs().max() + RESOLUTION


def effects_of(
    plain: Rerun, triple: Triple, ids: list[int], baseline: torch.Tensor | None = None
) -> tuple[torch.Tensor, float]:
    """Return the effects of features at the prompt's last token, and of all of them together."""
    texts = plain.texts(*triple)
    p = texts[0].prompt_length - 1
    whole = plain.metric(texts)
    single = [whole - plain.metric(texts, [plain.without([i], [p], baseline)]) for i in ids]
    return torch.tensor(single), whole - plain.metric(texts, [plain.without(ids, [p], baseline)])


def removed_from(analysis: dict[str, Any], scores: torch.Tensor) -> list[int]:
    """Return what --exact=all removes where nothing is flagged: the top of it, and the sample."""
    sample = int(analysis["diagnostics"]["exact"]["sample"]["id"])
    top = scores.abs().topk(TOP).indices.tolist()
    assert sample not in top
    return [*top, sample]


def assert_listed(analysis: dict[str, Any], removed: list[int], effects: torch.Tensor) -> None:
    """Compare what is listed with the largest effects of all that was removed."""
    largest = effects.abs().topk(TOP).indices.tolist()
    assert set(ids_of(analysis)) == {removed[i] for i in largest}
    by_id = dict(zip(removed, effects.tolist(), strict=True))
    expected = torch.tensor([by_id[feature] for feature in ids_of(analysis)])
    assert_close(values(analysis, "effect"), expected, EFFECT_BOUND)


@every_architecture
def test_effects_are_those_of_the_plain_model_on_every_architecture(
    parts: Parts, architecture: str
) -> None:
    model, dictionary, plain = parts(architecture)
    analyses = attribute(model, dictionary, TRIPLES, **ALL)
    for triple, analysis in zip(TRIPLES, analyses, strict=True):
        (text,) = plain.texts(*triple)
        p = text.prompt_length - 1
        x = plain.residuals(text)[p]
        of_all = plain.features(x) * plain.per_feature(x, plain.gradients(text)[p])
        removed = removed_from(analysis, of_all)
        effects, joint = effects_of(plain, triple, removed)
        assert_listed(analysis, removed, effects)
        exact = analysis["diagnostics"]["exact"]
        assert abs(exact["joint_effect"] - joint) <= EFFECT_BOUND * max(1, abs(joint))
        assert exact["noise_floor"] <= METRIC_BOUND
        scores = of_all[removed]
        assert exact["features"] == TOP + 1
        assert exact["joint_score"] == pytest.approx(float(scores.sum()), rel=1e-4, abs=1e-5)
        assert exact["pearson"] == pytest.approx(stats.pearsonr(scores, effects)[0], abs=1e-4)
        assert exact["spearman"] == pytest.approx(stats.spearmanr(scores, effects)[0], abs=1e-5)
        same = (scores.sign() == effects.sign()).float().mean()
        assert exact["sign_agreement"] == pytest.approx(float(same))


@pytest.mark.parametrize("kind", tiny.SAE_KINDS)
def test_effects_are_those_of_the_plain_model_on_every_sae_kind(parts: Parts, kind: str) -> None:
    model, dictionary, plain = parts("gemma2", kind)
    (analysis,) = attribute(model, dictionary, TRIPLES[:1], **ALL)
    expected, _ = effects_of(plain, TRIPLES[0], ids_of(analysis))
    assert_close(values(analysis, "effect"), expected, EFFECT_BOUND)


def test_a_removed_feature_is_its_activation_times_its_decoder_direction(
    parts: Parts,
) -> None:
    """It is x - f_i d_i, for an SAE without normalisation, written out."""
    model, dictionary, plain = parts()
    (found,) = exact_effects(model, dictionary, TRIPLES[:1], top_k=3)
    texts = plain.texts(*TRIPLES[0])
    p = texts[0].prompt_length - 1
    features = plain.features(plain.residuals(texts[0])[p])

    def without(feature: int) -> float:
        def change(x: torch.Tensor) -> torch.Tensor:
            x = x.clone()
            x[p] -= features[feature] * dictionary.sae.W_dec[feature].detach()
            return x

        return plain.metric(texts, [change])

    for feature, effect in found["effects"].items():
        expected = plain.metric(texts) - without(int(feature))
        assert effect == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_the_effects_of_any_features_can_be_asked_for(parts: Parts) -> None:
    model, dictionary, plain = parts()
    (found,) = exact_effects(model, dictionary, TRIPLES[:1], ["5", 17, 99])
    assert list(found["effects"]) == ["5", "17", "99"]
    expected, joint = effects_of(plain, TRIPLES[0], [5, 17, 99])
    assert_close(torch.tensor(list(found["effects"].values())), expected, EFFECT_BOUND)
    assert found["joint_effect"] == pytest.approx(joint, abs=1e-5)
    for wrong in ("128", -1, "x"):
        with pytest.raises(SettingsError, match="is no feature of"):
            exact_effects(model, dictionary, TRIPLES[:1], [wrong])


@pytest.mark.parametrize("batch_tokens", [1, 200, 5000])
def test_how_variants_are_batched_changes_no_effect(parts: Parts, batch_tokens: int) -> None:
    model, dictionary, _ = parts("gemma3")
    first = attribute(model, dictionary, TRIPLES, **ALL)
    again = attribute(
        model,
        dictionary,
        TRIPLES,
        **ALL,
        batch_tokens=batch_tokens,
    )
    for one, other in zip(first, again, strict=True):
        assert_close(values(one, "effect"), values(other, "effect"), EFFECT_BOUND)


@pytest.mark.parametrize("hook", ["hook_mlp_out", "hook_attn_out", "hook_resid_pre", "attn.hook_z"])
@pytest.mark.parametrize("layer", [0, 2])
def test_effects_at_other_hook_points(parts: Parts, hook: str, layer: int) -> None:
    """Held against a plain pass of the same model: the hook point changes what it holds."""
    model, dictionary, plain = parts()
    dictionary.sae.cfg.metadata.hook_name = f"blocks.{layer}.{hook}"
    dictionary = Dictionary("memory", "tiny", f"blocks.{layer}.{hook}", dictionary.sae, {})
    (found,) = exact_effects(model, dictionary, TRIPLES[:1], top_k=3)
    (text,) = plain.texts(*TRIPLES[0])
    p = text.prompt_length - 1
    ids = torch.tensor([text.ids])

    def metric(feature: int | None) -> float:
        def remove(x: torch.Tensor, hook: object) -> torch.Tensor:
            del hook
            x = x.clone()
            if feature is not None:
                f = dictionary.sae.encode(x[0, p].flatten()[None])[0]
                x[0, p] -= (f[feature] * dictionary.sae.W_dec[feature]).view_as(x[0, p])
            return x

        with torch.no_grad(), model.hooks([(dictionary.hook_name, remove)]):
            return float(text.read(model.bridge.original_model(ids).logits[0]))

    whole = metric(None)
    expected = torch.tensor([whole - metric(int(feature)) for feature in found["effects"]])
    assert_close(torch.tensor(list(found["effects"].values())), expected, EFFECT_BOUND)


@pytest.mark.parametrize("baseline", ["zero", "base", "mean"])
@differing_architectures
def test_baselines_are_the_activations_on_the_base_prompts(
    parts: Parts, architecture: str, baseline: str
) -> None:
    if (architecture, baseline) == ("qwen3_5", "base"):
        pytest.skip("the opinion changes this tiny model by less than float32 resolves")
    model, dictionary, plain = parts(architecture)
    analyses = attribute(
        model,
        dictionary,
        TRIPLES,
        base_prompts=BASE_PROMPTS,
        baseline=baseline,
        **ALL,
    )
    on_base = []
    for prompt in BASE_PROMPTS:
        (text,) = plain.texts(prompt, " yes", " no")
        alone = text.ids[: text.prompt_length]
        text.ids = alone  # nothing after it can matter
        text.read = lambda logits: logits.sum()
        on_base.append(plain.features(plain.residuals(text)[-1]))
    mean = torch.stack(list({tuple(f.tolist()): f for f in on_base}.values())).mean(dim=0)
    for triple, base, analysis in zip(TRIPLES, on_base, analyses, strict=True):
        texts = plain.texts(*triple)
        p = texts[0].prompt_length - 1
        x, g = plain.residuals(texts[0])[p], plain.gradients(texts[0])[p]
        compared = {"zero": torch.zeros_like(base), "base": base, "mean": mean}[baseline]
        features = plain.features(x)
        scores = (features - compared) * plain.per_feature(x, g)
        removed = removed_from(analysis, scores)
        assert_listed(analysis, removed, effects_of(plain, triple, removed, compared)[0])
        ids = ids_of(analysis)
        assert_close(values(analysis, "score"), scores[ids], SUM_BOUND)
        if baseline != "zero":
            torch.testing.assert_close(
                values(analysis, "base_activation"), compared[ids], atol=1e-4, rtol=1e-4
            )
        told = analysis["prompt_activations"]
        active = ((features != 0) | (base != 0)).nonzero()[:, 0]
        assert told["ids"] == [str(i) for i in active.tolist()]
        for name, table in (("flagged", features), ("base", base)):
            torch.testing.assert_close(
                torch.tensor(told[name]), table[active], atol=1e-4, rtol=1e-4
            )


@pytest.mark.parametrize("baseline", ["zero", "base"])
@differing_architectures
def test_integrated_gradients_are_the_mean_gradient_on_the_way(
    parts: Parts, architecture: str, baseline: str
) -> None:
    if (architecture, baseline) == ("qwen3_5", "base"):
        pytest.skip("the opinion changes this tiny model by less than float32 resolves")
    model, dictionary, plain = parts(architecture)
    steps = 4
    (analysis,) = attribute(
        model,
        dictionary,
        TRIPLES[:1],
        base_prompts=BASE_PROMPTS[:1],
        method="ig",
        ig_steps=steps,
        baseline=baseline,
        top_k=TOP,
    )
    (text,) = plain.texts(*TRIPLES[0])
    p = text.prompt_length - 1
    x = plain.residuals(text)[p]
    features = plain.features(x)
    start = torch.zeros_like(features)
    if baseline == "base":
        told = analysis["prompt_activations"]
        start[[int(i) for i in told["ids"]]] = torch.tensor(told["base"])
    total = torch.zeros_like(features)
    for k in range(steps):
        there = plain.moved(x, start + (k + 0.5) / steps * (features - start))
        total += plain.per_feature(x, plain.gradients(text, there, p)[p]) / steps
    scores = (features - start) * total
    ids = scores.abs().sort(descending=True, stable=True).indices[:TOP].tolist()
    assert ids_of(analysis) == ids
    assert_close(values(analysis, "score"), scores[ids], SUM_BOUND)

    def at_the_start(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[p] = plain.moved(x[p], start)
        return x

    path = analysis["diagnostics"]["path"]
    change = plain.metric([text]) - plain.metric([text], [at_the_start])
    assert path["change"] == pytest.approx(change, abs=METRIC_BOUND)
    assert path["sum_of_scores"] == pytest.approx(float(scores.sum()), rel=1e-3, abs=1e-4)
    gap = abs(path["sum_of_scores"] - path["change"]) / abs(path["change"])
    assert path["completeness_gap"] == pytest.approx(gap, rel=1e-3)


def test_more_steps_make_integrated_gradients_complete(parts: Parts) -> None:
    model, dictionary, _ = parts()
    gaps = []
    for steps in (5, 50, 500):
        analyses = attribute(model, dictionary, TRIPLES, method="ig", ig_steps=steps)
        gaps.append(max(a["diagnostics"]["path"]["completeness_gap"] for a in analyses))
    assert gaps[0] > 10 * gaps[1]
    assert gaps[2] < 1e-3


@pytest.mark.parametrize("sequence_tokens", [None, 3])
@pytest.mark.parametrize("position", ["tail", "all"])
@differing_architectures
def test_scores_at_several_positions_are_summed(
    parts: Parts, architecture: str, position: str, sequence_tokens: int | None
) -> None:
    model, dictionary, plain = parts(architecture)
    pairs = TRIPLES[:2]
    analyses = attribute(
        model,
        dictionary,
        pairs,
        position=position,
        sequence_tokens=sequence_tokens,
        **ALL,
    )
    bos = model.bos_token_id is not None
    for triple, analysis in zip(pairs, analyses, strict=True):
        texts = plain.texts(*triple, sequence_tokens)
        p = texts[0].prompt_length - 1
        ends = [p + analysis["token_position"] - 1]
        if sequence_tokens:
            ends = [p + n - 1 for n in analysis["sequence_tokens"]]
        by_place: dict[tuple[int, int], torch.Tensor] = {}
        ranges = [range(p, end + 1) if position == "tail" else range(bos, p + 1) for end in ends]
        for side, (text, places) in enumerate(zip(texts, ranges, strict=True)):
            x, g = plain.residuals(text), plain.gradients(text)
            for at in places:
                key = (at, side if at > p else 0)
                scores = plain.features(x[at]) * plain.per_feature(x[at], g[at])
                by_place[key] = by_place.get(key, torch.zeros_like(scores)) + scores
        total = torch.stack(list(by_place.values())).sum(dim=0)
        ids = ids_of(analysis)
        assert_close(values(analysis, "score"), total[ids], SUM_BOUND)
        removed = removed_from(analysis, total)
        whole = plain.metric(texts)
        effects = [
            whole - plain.metric(texts, [plain.without([i], list(each)) for each in ranges])
            for i in removed
        ]
        assert_listed(analysis, removed, torch.tensor(effects))
        for feature in analysis["top_features"]:
            strongest = feature["positions"]
            assert 1 <= len(strongest) <= 3
            sizes = [abs(place["score"]) for place in strongest]
            assert sizes == sorted(sizes, reverse=True)
            largest = max(abs(float(scores[int(feature["id"])])) for scores in by_place.values())
            assert sizes[0] == pytest.approx(largest, rel=1e-3)
            for place in strongest:
                key = (place["position"], int(place.get("answer") == "base"))
                told = float(by_place[key][int(feature["id"])])
                assert place["score"] == pytest.approx(told, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("sequence_tokens", [1, 3, 50])
@differing_architectures
def test_sequences_are_contrasted_by_their_mean_log_probabilities(
    parts: Parts, architecture: str, sequence_tokens: int
) -> None:
    model, dictionary, plain = parts(architecture)
    pairs = TRIPLES[:3]
    analyses = attribute(
        model,
        dictionary,
        pairs,
        sequence_tokens=sequence_tokens,
        **ALL,
    )
    for triple, analysis in zip(pairs, analyses, strict=True):
        texts = plain.texts(*triple, sequence_tokens)
        p = texts[0].prompt_length - 1
        assert analysis["log_prob_diff"] == pytest.approx(plain.metric(texts), abs=METRIC_BOUND)
        assert "logit_diff" not in analysis
        x = plain.residuals(texts[0])[p]
        g = sum(plain.gradients(text)[p] for text in texts)
        scores = plain.features(x) * plain.per_feature(x, g)
        assert_close(values(analysis, "score"), scores[ids_of(analysis)], SUM_BOUND)
        removed = removed_from(analysis, scores)
        whole = plain.metric(texts)
        without = [
            whole - plain.metric(texts, [plain.without([i], [p])] * len(texts)) for i in removed
        ]
        assert_listed(analysis, removed, torch.tensor(without))


def test_a_difference_after_the_tokens_to_check_is_contrasted_as_a_sequence(
    parts: Parts,
) -> None:
    model, dictionary, plain = parts()
    same = " The argument is weak, I think. It is weak, it is weak, it is weak, it is weak,"
    late = [(TRIPLES[0][0], same + " yes.", same + " no.")]
    (skipped,) = attribute(model, dictionary, late, max_tokens_to_check=5)
    assert skipped["skipped"] == "No differing tokens found in first 5 positions"
    (analysis,) = attribute(
        model, dictionary, late, max_tokens_to_check=5, sequence_tokens=5, top_k=TOP
    )
    assert analysis["token_position"] > 5
    assert analysis["sequence_tokens"] == [analysis["token_position"]] * 2
    expected = plain.metric(plain.texts(*late[0], 5))
    assert analysis["log_prob_diff"] == pytest.approx(expected, abs=METRIC_BOUND)
    (nothing,) = attribute(model, dictionary, [(TRIPLES[0][0], same, same)], sequence_tokens=5)
    assert nothing["skipped"] == "No differing tokens found"


@pytest.mark.parametrize("position", ["tail", "all"])
def test_a_baseline_of_prompts_is_one_of_their_last_tokens(parts: Parts, position: str) -> None:
    model, dictionary, _ = parts()
    with pytest.raises(SettingsError, match=f"--position={position} asks for others"):
        attribute(
            model,
            dictionary,
            TRIPLES[:1],
            base_prompts=BASE_PROMPTS[:1],
            baseline="base",
            position=position,
        )
    with pytest.raises(SettingsError, match="needs base_prompts"):
        attribute(model, dictionary, TRIPLES[:1], baseline="mean")
