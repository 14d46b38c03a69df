"""An ablated model gives what a plain model with a subtracting hook gives, position by position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from rerun import Ablated
from sae_lens import SAE
from tiers import first_tier

from atp import ablate
from atp.attribution import ablation
from atp.attribution.batches import Batch
from atp.attribution.capture import capture, measure
from atp.attribution.contrasts import Contrast
from atp.errors import SettingsError
from atp.intervention.ablate import FeatureSet, ablated
from atp.model.dictionaries.loading import Dictionary
from atp.model.generation import end_tokens, generate, text_of
from atp.model.language_model import Model
from atp.model.pair_tokenizer import PairTokenizer, TokenizedPair

ModelFolder = Callable[[str], Path]
Loaded = Callable[[str], Model]
FEATURES = tuple(range(0, tiny.D_SAE, 3))
BOUND = 1e-4
QUICK_KINDS = [kind for kind in tiny.SAE_KINDS if kind != "matching_pursuit"]


def dictionary_of(sae: SAE[Any]) -> Dictionary:
    """Wrap an SAE as `load_sae` does."""
    return Dictionary("memory", "tiny", sae.cfg.metadata.hook_name, sae, {})


def contrasts(model: Model) -> list[Contrast]:
    """Return the contrasts of the tiny questions; they share stems and differ in length."""
    pair_tokenizer = PairTokenizer(model, max_tokens_to_check=20, chat_template=False)
    found = [pair_tokenizer(*triple) for triple in tiny.triples()]
    return [item.contrast for item in found if isinstance(item, TokenizedPair)]


def metrics(model: Model, items: Sequence[Contrast]) -> torch.Tensor:
    """Return the metrics of contrasts, in one batch."""
    return measure(model, Batch.of(items, model.device))


def plain_metrics(plain: Ablated, items: Sequence[Contrast]) -> torch.Tensor:
    """Return the same, one text at a time."""
    last = [plain.logits(item.tokens)[-1] for item in items]
    return torch.stack(
        [
            row[item.target_token] - row[item.base_token]
            for row, item in zip(last, items, strict=True)
        ]
    )


@pytest.mark.parametrize("architecture", first_tier(["gemma2", "qwen2"], tiny.CONFIGS))
@pytest.mark.parametrize("first", [False, True])
def test_the_metric_is_the_plain_models_on_every_architecture(
    model_folder: ModelFolder, loaded: Loaded, architecture: str, first: bool
) -> None:
    model, plain = loaded(architecture), Ablated(model_folder(architecture))
    sae = tiny.make_sae("standard")
    items = contrasts(model)
    with ablate(model, dictionary_of(sae), FEATURES, first_position=first):
        found = metrics(model, items)
    with plain.without([(tiny.HOOK_LAYER, sae, FEATURES)], first=first):
        expected = plain_metrics(plain, items)

    assert (found - expected).abs().max() <= BOUND
    assert (found - metrics(model, items)).abs().max() > 100 * BOUND  # it does something


@pytest.mark.parametrize("kind", first_tier(QUICK_KINDS, tiny.SAE_KINDS))
def test_the_metric_is_the_plain_models_with_every_kind_of_sae(
    model_folder: ModelFolder, loaded: Loaded, kind: str
) -> None:
    model, plain = loaded("llama"), Ablated(model_folder("llama"))
    sae = tiny.make_sae(kind)
    items = contrasts(model)
    with ablate(model, dictionary_of(sae), map(str, FEATURES), 0.5):
        found = metrics(model, items)
    with plain.without([(tiny.HOOK_LAYER, sae, FEATURES)], 0.5):
        expected = plain_metrics(plain, items)

    assert (found - expected).abs().max() <= BOUND


def test_saes_of_several_layers_act_together(model_folder: ModelFolder, loaded: Loaded) -> None:
    model, plain = loaded("gemma2"), Ablated(model_folder("gemma2"))
    low, high = tiny.make_sae("jumprelu", layer=0), tiny.make_sae("topk", layer=2, seed=1)
    items = contrasts(model)
    with plain.without([(0, low, FEATURES), (2, high, (1, 2, 3))]):
        expected = plain_metrics(plain, items)

    with ablate(model, dictionary_of(low), FEATURES), ablate(model, dictionary_of(high), (1, 2, 3)):
        assert (metrics(model, items) - expected).abs().max() <= BOUND
    sets = [FeatureSet(dictionary_of(low), FEATURES), FeatureSet(dictionary_of(high), (1, 2, 3))]
    with ablated(model, sets, 1.0, first_position=True):
        assert (metrics(model, items) - expected).abs().max() <= BOUND


def test_two_sets_of_one_sae_are_their_union(loaded: Loaded) -> None:
    model = loaded("llama")
    dictionary = dictionary_of(tiny.make_sae("standard"))
    items = contrasts(model)
    with ablate(model, dictionary, FEATURES):
        whole = metrics(model, items)
    parts = [FeatureSet(dictionary, FEATURES[:20]), FeatureSet(dictionary, FEATURES[20:])]
    with ablated(model, parts, 1.0, first_position=True):
        assert (metrics(model, items) - whole).abs().max() <= BOUND


@pytest.mark.parametrize(("features", "strength"), [(FEATURES, 0.0), ((), 1.0)])
def test_nothing_taken_out_changes_nothing_to_the_bit(
    loaded: Loaded, features: tuple[int, ...], strength: float
) -> None:
    model = loaded("gemma2")
    items = contrasts(model)
    before = metrics(model, items)
    with ablate(model, dictionary_of(tiny.make_sae("standard")), features, strength):
        assert torch.equal(metrics(model, items), before)


def removal_of(sae: Any, features: torch.Tensor) -> ablation.Removal:
    where = sae.cfg.metadata.hook_name
    return ablation.Removal(sae, tiny.D_SAE, lambda rows: rows, features, where, (where,))


def removed(removal: ablation.Removal, x: torch.Tensor) -> torch.Tensor:
    for _, hook in ablation.Ablation([removal], 1.0).hooks():
        x = hook(x, None)
    return x


def test_all_features_taken_out_leave_the_bias_and_the_error() -> None:
    sae = tiny.make_sae("jumprelu")
    x = torch.randn(2, 5, tiny.D_MODEL)
    every = torch.arange(tiny.D_SAE)
    found = removed(removal_of(sae, every), x)

    assert torch.allclose(found, x - (sae.encode(x) @ sae.W_dec), atol=1e-5)


def test_pieces_of_a_batch_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    sae = tiny.make_sae("topk, layer_norm")
    x = torch.randn(3, 7, tiny.D_MODEL)
    removal = removal_of(sae, torch.tensor(FEATURES))
    whole = removed(removal, x)
    monkeypatch.setattr(ablation, "MAX_ACTIVATIONS_PER_CHUNK", 4 * tiny.D_SAE)

    assert torch.allclose(removed(removal, x), whole, atol=1e-6)


def test_an_sae_in_float32_reads_a_bfloat16_stream() -> None:
    sae = tiny.make_sae("standard")
    x = torch.randn(1, 4, tiny.D_MODEL, dtype=torch.bfloat16)
    removal = removal_of(sae, torch.tensor(FEATURES))
    found = removed(removal, x)
    wide = removed(removal, x.float())

    assert found.dtype == torch.bfloat16
    assert torch.equal(found, wide.to(torch.bfloat16))


def test_hooks_are_gone_afterwards_also_after_a_fault(loaded: Loaded) -> None:
    model = loaded("llama")
    dictionary = dictionary_of(tiny.make_sae("standard"))
    items = contrasts(model)
    before = metrics(model, items)
    with pytest.raises(ZeroDivisionError), ablate(model, dictionary, FEATURES):
        raise ZeroDivisionError

    assert torch.equal(metrics(model, items), before)
    assert not model.bridge.original_model.base_model._forward_pre_hooks  # noqa: SLF001


def test_a_capture_within_leaves_the_ablation_in_place(loaded: Loaded) -> None:
    model = loaded("llama")
    dictionary = dictionary_of(tiny.make_sae("standard"))
    items = contrasts(model)
    batch = Batch.of(items, model.device)
    with ablate(model, dictionary, FEATURES):
        before = metrics(model, items)
        captured = capture(model, batch, [dictionary.hook_name])
        assert torch.allclose(captured.metric, before, atol=BOUND)
        assert torch.equal(metrics(model, items), before)


@pytest.mark.parametrize("feature", [tiny.D_SAE, -1, "x"])
def test_a_feature_that_the_sae_lacks_is_refused(loaded: Loaded, feature: int | str) -> None:
    dictionary = dictionary_of(tiny.make_sae("standard"))
    with (
        pytest.raises(SettingsError, match="is no feature of memory, which has 128"),
        ablate(loaded("llama"), dictionary, [feature]),
    ):
        pass


# --- generation


def prompts(model: Model) -> list[tuple[int, ...]]:
    """Return prompts of different lengths."""
    pair_tokenizer = PairTokenizer(model, max_tokens_to_check=20, chat_template=False)
    texts = ("Please comment. Argument:", "I", "I really like the argument. Why?")
    return [pair_tokenizer.text(text).tokens for text in texts]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("architecture", "first"),
    first_tier(
        [*product(tiny.FAMILIES, [True]), ("mamba", False), ("qwen3_5", True)],
        [*product([*tiny.CONFIGS, *tiny.STATEFUL], [True]), *product(tiny.STATEFUL, [False])],
    ),
)
def test_a_batch_is_answered_as_the_plain_model_answers_token_by_token(
    model_folder: ModelFolder, loaded: Loaded, architecture: str, first: bool
) -> None:
    model, plain = loaded(architecture), Ablated(model_folder(architecture))
    sae = tiny.make_sae("standard")
    rows, ends = prompts(model), set(end_tokens(model))
    with ablate(model, dictionary_of(sae), FEATURES, first_position=first):
        found = [list(each.tokens) for each in generate(model, rows, max_new_tokens=8)]
    with plain.without([(tiny.HOOK_LAYER, sae, FEATURES)], first=first):
        expected = [plain.answer(row, 8, ends) for row in rows]

    assert found == expected
    assert found != [list(each.tokens) for each in generate(model, rows, max_new_tokens=8)]


def test_an_answer_ends_at_an_end_token(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded("llama")
    (row, *_) = prompts(model)
    (whole,) = generate(model, [row], max_new_tokens=6)
    assert not whole.ended
    third = whole.tokens[2]
    config = model.bridge.original_model.generation_config
    monkeypatch.setattr(config, "eos_token_id", [2, third])
    (cut,) = generate(model, [row], max_new_tokens=6)

    assert cut.ended
    assert cut.tokens == whole.tokens[: whole.tokens.index(third)]
    assert model.bridge.original_model.generation_config is config


def test_a_models_own_taste_in_sampling_is_not_followed(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded("gemma2")
    rows = prompts(model)
    plain = generate(model, rows, max_new_tokens=6)
    config = model.bridge.original_model.generation_config
    monkeypatch.setattr(config, "repetition_penalty", 50.0)

    assert generate(model, rows, max_new_tokens=6) == plain


def test_a_sampled_answer_depends_on_its_seed_and_not_on_its_batch(loaded: Loaded) -> None:
    model = loaded("llama")
    rows = prompts(model)
    together = generate(model, rows, max_new_tokens=8, temperature=1.5, seeds=[7, 8, 9])
    alone = generate(model, rows[1:2], max_new_tokens=8, temperature=1.5, seeds=[8])
    other = generate(model, rows[1:2], max_new_tokens=8, temperature=1.5, seeds=[10])

    assert alone == together[1:2]
    assert other != alone


def test_samples_follow_the_softmax(loaded: Loaded, model_folder: ModelFolder) -> None:
    model = loaded("llama")
    (row, *_) = prompts(model)
    count = 600
    found = generate(model, [row] * count, max_new_tokens=1, temperature=2.0, seeds=range(count))
    expected = (Ablated(model_folder("llama")).logits(row)[-1] / 2.0).softmax(dim=0)
    token = int(expected.argmax())
    share = sum(each.tokens == (token,) for each in found) / count
    spread = float(expected[token] * (1 - expected[token]) / count) ** 0.5

    assert abs(share - float(expected[token])) <= 4 * spread


def test_the_text_of_an_answer_keeps_its_leading_blank(loaded: Loaded) -> None:
    model = loaded("llama")
    prompt = model.tokenizer("Comment:", add_special_tokens=False).input_ids
    answer = model.tokenizer(" The argument", add_special_tokens=False).input_ids

    assert text_of(model, [1, *prompt], answer) == " The argument"
