"""Whole texts in one pass give what prefixes, a cache and a tail give; no token sees padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
from tiers import first_tier

from atp import attribute
from atp.attribution.batches import Batch, computed_tokens, plan
from atp.attribution.capture import capture
from atp.attribution.contrasts import Contrast
from atp.model.dictionaries.loading import Dictionary
from atp.model.kv_cache import keeps_all_keys
from atp.model.language_model import Model

Loaded = Callable[[str], Model]
BASE_PROMPTS = [
    question["variations"][0]["prompt"] for question in tiny.questions(1) for _ in range(2)
]
WAYS: dict[str, dict[str, Any]] = {
    "scores": {},
    "effects": {"exact": "all", "sequence_tokens": 6, "batch_tokens": 300, "top_k": 4},
    "paths": {"method": "ig", "ig_steps": 3, "position": "tail"},
    "all positions": {"position": "all", "exact": "all", "batch_tokens": 300, "top_k": 4},
    "a mean baseline": {"baseline": "mean", "base_prompts": BASE_PROMPTS},
}


@pytest.mark.parametrize("way", first_tier(["paths", "a mean baseline"], WAYS))
@pytest.mark.parametrize("architecture", first_tier(["llama"], tiny.FAMILIES))
def test_a_model_with_a_cache_gets_the_same_numbers_without_it(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, architecture: str, way: str
) -> None:
    sae = tiny.make_sae("standard")
    dictionary = Dictionary("memory", "tiny", sae.cfg.metadata.hook_name, sae, {})

    def run() -> list[dict[str, Any]]:
        how = {"top_k": tiny.D_SAE, **WAYS[way]}
        return list(attribute(loaded(architecture), dictionary, tiny.triples(1)[:2], **how))

    cached = run()
    monkeypatch.setattr(Model, "keeps_all_keys", False)
    for before, after in zip(cached, run(), strict=True):
        name = "logit_diff" if "logit_diff" in before else "log_prob_diff"
        assert abs(before[name] - after[name]) <= 1e-4
        for name, share in (("score", 1e-5), ("effect", 1e-4)):
            numbers = [
                {item["id"]: item[name] for item in each["top_features"] if name in item}
                for each in (before, after)
            ]
            assert numbers[0].keys() == numbers[1].keys()
            bound = share * max((abs(number) for number in numbers[0].values()), default=0) + 2e-6
            for feature, number in numbers[0].items():
                assert abs(number - numbers[1][feature]) <= bound


SHORT = Contrast((1, 20, 30, 40), prompt_length=3, target_token=7, base_token=8)
LONG = Contrast(tuple(range(1, 90)), prompt_length=80, target_token=7, base_token=8)
HOOK = f"blocks.{tiny.HOOK_LAYER}.hook_resid_post"


@pytest.mark.parametrize("architecture", first_tier(["qwen3_5", "lfm2"], tiny.STATEFUL))
def test_a_row_beside_a_much_longer_one_is_the_row_alone(loaded: Loaded, architecture: str) -> None:
    """Even where the whole mask is lost: nothing rests on it."""
    model = loaded(architecture)
    assert not model.keeps_all_keys
    alone = capture(model, Batch.of([SHORT], model.device, whole=True), [HOOK])
    both = Batch.of([SHORT, LONG], model.device, whole=True)
    assert both.mask.all()
    beside = capture(model, both, [HOOK])
    torch.testing.assert_close(beside.metric[:1], alone.metric, rtol=1e-5, atol=1e-5)
    for name in ("residuals", "gradients"):
        found, expected = getattr(beside, name)[HOOK][:1], getattr(alone, name)[HOOK]
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_batch_that_shares_prefixes_is_refused(loaded: Loaded) -> None:
    model = loaded("lfm2")
    with pytest.raises(ValueError, match="needs a batch of whole texts"):
        capture(model, Batch.of([SHORT, LONG], model.device), [HOOK])


def test_the_plan_counts_whole_texts() -> None:
    """Texts that share nearly everything are no cheaper; batches are by length."""
    start = tuple(range(1, 60))
    contrasts = [
        Contrast((*start, *[70 + i] * (1 + 8 * (i % 2))), 59, target_token=7, base_token=8)
        for i in range(8)
    ]
    assert computed_tokens(contrasts, whole=True) == 8 * 68 > computed_tokens(contrasts)
    for indices in plan(contrasts, 300, whole=True):
        assert len({len(contrasts[i].tokens) for i in indices}) == 1


@pytest.mark.parametrize("architecture", [*tiny.CONFIGS, *tiny.STATEFUL])
def test_models_with_another_state_are_told_by_their_structure(architecture: str) -> None:
    configs = {**tiny.CONFIGS, **tiny.STATEFUL}
    with torch.device("meta"):
        hf_model = tiny.CausalLM.from_config(configs[architecture]())
    assert keeps_all_keys(hf_model) == (architecture not in tiny.STATEFUL)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", tiny.EXPERTS)
def test_which_pairs_share_a_batch_with_a_mixture_of_experts_changes_nothing(
    loaded: Loaded, architecture: str
) -> None:
    """Padding and other rows pass through the experts, too; no expert has room for a few only."""
    model, sae = loaded(architecture), tiny.make_sae("standard")
    dictionary = Dictionary("memory", "tiny", HOOK, sae, {})
    alone = attribute(model, dictionary, tiny.triples(), top_k=tiny.D_SAE, batch_tokens=1)
    for triples in (tiny.triples(), tiny.triples()[::-2]):
        among = attribute(model, dictionary, triples, top_k=tiny.D_SAE, batch_tokens=4000)
        for triple, analysis in zip(triples, among, strict=True):
            found, expected = (
                torch.tensor([score for _, score in sorted(scores.items())])
                for scores in (
                    {item["id"]: item["score"] for item in each["top_features"]}
                    for each in (analysis, alone[tiny.triples().index(triple)])
                )
            )
            assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
