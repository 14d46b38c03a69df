"""atp gives the notebook's numbers: on every architecture and SAE kind, in any batch, at any layer.

Bounds, float32: |score - oracle| <= 1e-5 of the largest score of the pair, logit_diff within 1e-4,
the same tokens and position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from oracle import Answer, Oracle
from sae_lens import SAE
from tiers import first_tier

from atp import attribute
from atp.attribution.batches import Batch
from atp.attribution.capture import capture
from atp.attribution.scores import score
from atp.model.dictionaries.loading import Dictionary
from atp.model.dictionaries.placement import Dictionaries
from atp.model.language_model import Model
from atp.model.pair_tokenizer import PairTokenizer, TokenizedPair
from atp.scoring.preflight import check_dictionaries
from atp.scoring.scorer import Scorer

ModelFolder = Callable[[str], Path]
Loaded = Callable[[str], Model]
SCORE_BOUND, LOGIT_BOUND = 1e-5, 1e-4


def dictionary_of(sae: SAE[Any]) -> Dictionary:
    """Wrap an SAE as `load_sae` does."""
    return Dictionary("memory", "tiny", sae.cfg.metadata.hook_name, sae, {})


def all_scores(
    model: Model,
    sae: SAE[Any],
    batch_size: int,
    triples: Sequence[tuple[str, str, str]] = tuple(tiny.triples()),
) -> list[tuple[TokenizedPair, Any, Any]]:
    """Return contrast, metric and scores of every feature for pairs, in batches."""
    pair_tokenizer = PairTokenizer(model, max_tokens_to_check=20, chat_template=False)
    found = [pair_tokenizer(*triple) for triple in triples]
    contrasted = [item for item in found if isinstance(item, TokenizedPair)]
    assert len(contrasted) == len(found)
    hook = sae.cfg.metadata.hook_name
    rows = []
    for start in range(0, len(contrasted), batch_size):
        members = contrasted[start : start + batch_size]
        contrasts = [item.contrast for item in members]
        batch = Batch.of(contrasts, model.device, whole=not model.keeps_all_keys)
        captured = capture(model, batch, [hook])
        scores = score(sae, captured.residuals[hook], captured.gradients[hook], tiny.lengths(sae))
        rows += [(item, captured.metric[i], scores.scores[i]) for i, item in enumerate(members)]
    return rows


def assert_same(rows: list[tuple[TokenizedPair, Any, Any]], expected: list[Answer | None]) -> None:
    """Compare with the oracle, pair by pair, within the bounds."""
    for (item, metric, scores), answer in zip(rows, expected, strict=True):
        assert answer is not None
        assert item.contrast.offset == answer.token_position
        assert (item.target_text, item.base_text) == (answer.target_token, answer.base_token)
        assert abs(float(metric) - answer.logit_diff) <= LOGIT_BOUND
        # Above the last layer only position p itself is read: there, scores are 0 for o > 1.
        largest = answer.scores.abs().max()
        assert largest > 0 or answer.token_position > 1
        assert (scores - answer.scores).abs().max() <= SCORE_BOUND * largest


@pytest.mark.parametrize(
    "architecture",
    first_tier([*tiny.FAMILIES, "qwen3_5", "lfm2"], [*tiny.CONFIGS, *tiny.STATEFUL]),
)
def test_scores_are_the_oracles_on_every_architecture(
    model_folder: ModelFolder, loaded: Loaded, architecture: str
) -> None:
    """Each row alone, and among longer ones: padding does not change it."""
    sae = tiny.make_sae("standard")
    oracle = Oracle(str(model_folder(architecture)), sae, tiny.HOOK_LAYER)
    expected = [oracle(*triple) for triple in tiny.triples()]
    alone, *padded = (all_scores(loaded(architecture), sae, size) for size in (1, 4, 16))
    lengths = {item.contrast.prompt_length for item, _, _ in alone}
    assert max(lengths) > 1.5 * min(lengths)
    assert_same(alone, expected)
    for rows in padded:
        assert_same(rows, expected)
        for (_, metric, scores), (_, other_metric, other_scores) in zip(alone, rows, strict=True):
            assert abs(float(metric - other_metric)) <= LOGIT_BOUND
            assert (scores - other_scores).abs().max() <= SCORE_BOUND * scores.abs().max()


@pytest.mark.parametrize("kind", tiny.SAE_KINDS)
def test_scores_are_the_oracles_on_every_sae_kind(
    model_folder: ModelFolder, loaded: Loaded, kind: str
) -> None:
    sae = tiny.make_sae(kind)
    oracle = Oracle(str(model_folder("gemma2")), sae, tiny.HOOK_LAYER)
    expected = [oracle(*triple) for triple in tiny.triples(2)]
    for batch_size in (1, 4, 16):
        rows = all_scores(loaded("gemma2"), sae, batch_size, tiny.triples(2))
        assert_same(rows, expected)


@pytest.mark.parametrize("layer", range(tiny.N_LAYERS))
def test_scores_are_the_oracles_at_every_layer(
    model_folder: ModelFolder, loaded: Loaded, layer: int
) -> None:
    sae = tiny.make_sae("jumprelu", layer=layer)
    oracle = Oracle(str(model_folder("gemma2")), sae, layer)
    expected = [oracle(*triple) for triple in tiny.triples()]
    assert_same(all_scores(loaded("gemma2"), sae, 16), expected)


def opinion_last() -> list[tuple[str, str, str]]:
    """Prompts of different length in which the opinion comes after the text."""
    return [
        (f"{text * (1 + index % 2)}\n{opinion}Comment:", f" {opening}, yes.", " It is, I think.")
        for index, text in enumerate(tiny.TOPICS)
        for opinion, opening in zip(tiny.OPINIONS.values(), tiny.OPENINGS, strict=False)
    ]


@pytest.mark.parametrize("architecture", first_tier(tiny.FAMILIES, tiny.CONFIGS))
def test_a_start_that_rows_share_is_computed_once_and_changes_nothing(
    model_folder: ModelFolder, loaded: Loaded, architecture: str
) -> None:
    model, sae = loaded(architecture), tiny.make_sae("standard")
    oracle = Oracle(str(model_folder(architecture)), sae, tiny.HOOK_LAYER)
    triples = opinion_last()
    rows = all_scores(model, sae, len(triples), triples)
    batch = Batch.of([item.contrast for item, _, _ in rows], model.device)
    assert 1 < len(batch.prefix_ids) < len(rows)  # one for each text
    assert batch.prefix_columns.shape[1] > tiny.CONFIGS["gemma2"]().sliding_window
    assert_same(rows, [oracle(*triple) for triple in triples])


@pytest.mark.parametrize("joins_heads", [True, False])
def test_an_sae_on_attention_heads_gives_the_oracles_scores(
    model_folder: ModelFolder, loaded: Loaded, joins_heads: bool
) -> None:
    """hook_z, (batch, position, head, d_head), is what the output projection reads, flattened."""
    folder, flat = model_folder("llama"), tiny.make_sae("standard")
    oracle = Oracle(str(folder), flat, f"{tiny.HOOK_LAYER}.self_attn.o_proj.input")
    flat.cfg.metadata.hook_name = f"blocks.{tiny.HOOK_LAYER}.attn.hook_z"
    sae = flat
    if joins_heads:
        sae = SAE.from_dict({**flat.cfg.to_dict(), "reshape_activations": "hook_z"})
        sae.load_state_dict(flat.state_dict())
    dictionary, model = dictionary_of(sae), loaded("llama")
    check_dictionaries(model, Dictionaries([dictionary], model.device))
    for triple, analysis in zip(
        tiny.triples(), attribute(model, dictionary, tiny.triples()), strict=True
    ):
        answer = oracle(*triple)
        assert answer is not None
        largest = float(answer.scores.abs().max())
        assert largest > 0
        for feature in analysis["top_features"]:
            gap = abs(feature["score"] - float(answer.scores[int(feature["id"])]))
            assert gap <= SCORE_BOUND * largest


def test_more_saes_in_one_pass_change_nothing(loaded: Loaded) -> None:
    model = loaded("llama")
    saes = [tiny.make_sae("topk", layer=layer, seed=layer) for layer in (0, 2, 3)]
    saes.append(tiny.make_sae("standard", layer=2, d_sae=64))
    pair_tokenizer = PairTokenizer(model, max_tokens_to_check=20, chat_template=False)
    batch = [pair_tokenizer(*triple) for triple in tiny.triples()]

    def analysed(*chosen: SAE[Any], offload: bool = False) -> list[list[dict[str, Any]]]:
        dictionaries = Dictionaries(
            [dictionary_of(sae) for sae in chosen], model.device, offload=offload
        )
        scorer = Scorer(model, dictionaries, top_k=8)
        return scorer.analyse([scorer.capture(batch)])

    together = analysed(*saes)
    assert analysed(*saes, offload=True) == together
    for which, sae in enumerate(saes):
        apart = analysed(sae)
        for both, (single,) in zip(together, apart, strict=True):
            bound = SCORE_BOUND * abs(single["top_features"][0]["score"])
            assert abs(both[which]["logit_diff"] - single["logit_diff"]) <= LOGIT_BOUND
            for one, other in zip(both[which]["top_features"], single["top_features"], strict=True):
                assert one["id"] == other["id"]
                assert abs(one["score"] - other["score"]) <= bound


def test_the_analysis_lists_the_oracles_top_features(
    model_folder: ModelFolder, loaded: Loaded
) -> None:
    folder, sae = model_folder("gpt2"), tiny.make_sae("standard")
    oracle = Oracle(str(folder), sae, tiny.HOOK_LAYER)
    model = loaded("gpt2")
    analyses = attribute(model, dictionary_of(sae), tiny.triples(), top_k=10, chat_template=True)
    for triple, analysis in zip(tiny.triples(), analyses, strict=True):
        answer = oracle(*triple, chat=True)
        assert answer is not None
        assert analysis["token_position"] == answer.token_position
        assert analysis["target_token"] == answer.target_token
        best = torch.sort(answer.scores.abs(), descending=True, stable=True).indices[:10]
        listed = analysis["top_features"]
        assert [int(feature["id"]) for feature in listed] == best.tolist()
        for feature, index in zip(listed, best, strict=True):
            largest = answer.scores.abs().max()
            assert abs(feature["score"] - answer.scores[index]) <= SCORE_BOUND * largest
            assert feature["activation"] == pytest.approx(
                float(answer.activations[index]), rel=1e-4
            )
            assert feature["gradient"] == pytest.approx(
                float(answer.gradients[index]), rel=1e-3, abs=1e-6
            )


@pytest.mark.parametrize("kind", tiny.SAE_KINDS)
def test_the_shares_of_the_effect_add_up(loaded: Loaded, kind: str) -> None:
    """x.g = sum f*(dm/df) + decode(0).g + error.g, with terms computed apart."""
    model, sae = loaded("llama"), tiny.make_sae(kind)
    pair_tokenizer = PairTokenizer(model, max_tokens_to_check=20, chat_template=False)
    contrasts = [pair_tokenizer(*triple).contrast for triple in tiny.triples()]
    hook = sae.cfg.metadata.hook_name
    captured = capture(model, Batch.of(contrasts, model.device), [hook])
    x, g = captured.residuals[hook], captured.gradients[hook]
    scores = score(sae, x, g, tiny.lengths(sae))
    total = (x.double() * g.double()).sum(dim=1)
    shares = scores.features + scores.bias + scores.sae_error
    size = scores.features.abs() + scores.bias.abs() + scores.sae_error.abs()
    assert ((total - shares).abs() <= 1e-5 * size).all()
    assert (scores.identity_gap <= 1e-5).all()
