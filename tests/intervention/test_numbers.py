"""Divergence, changes of the metric, control sets: against plain sums and known values."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from rerun import Ablated
from tiers import first_tier

from atp.attribution import divergence
from atp.intervention.ablate import FeatureSet
from atp.intervention.feature_sets import NEIGHBOURS, matched
from atp.intervention.metric_changes import against_controls, overlap, summary, verdict
from atp.intervention.runner import AblationRunner, batches_of
from atp.model.dictionaries.loading import Dictionary
from atp.model.language_model import Model
from atp.model.pair_tokenizer import PairTokenizer, Text

FEATURES = tuple(range(0, tiny.D_SAE, 3))


# --- side effects


@pytest.mark.parametrize("architecture", first_tier(tiny.FAMILIES, tiny.CONFIGS))
@pytest.mark.parametrize("batch_tokens", [1, 1000])
def test_kl_and_perplexity_are_those_of_full_logits(
    model_folder: Callable[[str], Path],
    loaded: Callable[[str], Model],
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    batch_tokens: int,
) -> None:
    monkeypatch.setattr(divergence, "MAX_LOGITS_PER_CHUNK", 5 * tiny.VOCABULARY)
    model, plain = loaded(architecture), Ablated(model_folder(architecture))
    sae = tiny.make_sae("standard")
    dictionary = Dictionary("memory", "tiny", sae.cfg.metadata.hook_name, sae, {})
    pair_tokenizer = PairTokenizer(model, max_tokens_to_check=20, chat_template=False)
    texts = [pair_tokenizer.text(prompt, base) for prompt, _, base in tiny.triples(2)]
    assert all(isinstance(text, Text) for text in texts)
    runner = AblationRunner(model, batch_tokens, 1.0, first_position=False)
    (found,) = runner.side_effects(texts, [[FeatureSet(dictionary, FEATURES)]])

    sums = np.zeros(4)
    for text in texts:
        p = plain.logits(text.tokens).double().log_softmax(dim=1)
        with plain.without([(tiny.HOOK_LAYER, sae, FEATURES)], first=False):
            q = plain.logits(text.tokens).double().log_softmax(dim=1)
        for place in range(text.prompt_length - 1, len(text.tokens) - 1):
            token = text.tokens[place + 1]
            kl = float((p[place].exp() * (p[place] - q[place])).sum())
            sums += [kl, -float(p[place, token]), -float(q[place, token]), 1]
    assert (found.kl, found.nll_before, found.nll_after) == pytest.approx(sums[:3], rel=1e-4)
    assert (found.tokens, found.texts) == (int(sums[3]), len(texts))
    assert found.kl > 0


@pytest.mark.parametrize("architecture", first_tier(tiny.FAMILIES, tiny.CONFIGS))
def test_sequences_are_contrasted_without_features_too(
    model_folder: Callable[[str], Path], loaded: Callable[[str], Model], architecture: str
) -> None:
    """The difference of mean log-probabilities, whole texts with full logits."""
    model, plain = loaded(architecture), Ablated(model_folder(architecture))
    sae = tiny.make_sae("standard")
    dictionary = Dictionary("memory", "tiny", sae.cfg.metadata.hook_name, sae, {})
    pair_tokenizer = PairTokenizer(
        model, max_tokens_to_check=20, chat_template=False, sequence_tokens=4
    )
    triples = tiny.triples(2)
    contrasts = [pair_tokenizer(*triple).contrast for triple in triples]
    runner = AblationRunner(model, 500, 1.0, first_position=True)
    with runner.without([FeatureSet(dictionary, FEATURES)]):
        found = runner.metrics(contrasts)

    for number, contrast in zip(found, contrasts, strict=True):
        expected = 0.0
        for sign, answer in zip((1, -1), contrast.sequences, strict=True):
            tokens = (*contrast.tokens[: contrast.prompt_length], *answer)
            with plain.without([(tiny.HOOK_LAYER, sae, FEATURES)]):
                logs = plain.logits(tokens).log_softmax(dim=1)
            places = range(contrast.prompt_length, len(tokens))
            expected += sign * float(sum(logs[i - 1, tokens[i]] for i in places)) / len(answer)
        assert number == pytest.approx(expected, abs=1e-4)


def test_a_token_of_no_probability_adds_nothing() -> None:
    class Head:
        vocabulary = 3

        def every_logit(self, hidden: torch.Tensor) -> torch.Tensor:
            return hidden

    hidden = torch.tensor([[0.0, 0.0, -math.inf]])
    found = divergence.divergence(Head(), hidden, hidden, torch.tensor([0]))

    assert float(found.kl[0]) == 0
    assert float(found.nll_before[0]) == pytest.approx(math.log(2))


def test_mean_activations_count_every_position_but_the_first_once(
    loaded: Callable[[str], Model],
) -> None:
    model = loaded("llama")
    sae = tiny.make_sae("standard")
    dictionary = Dictionary("memory", "tiny", sae.cfg.metadata.hook_name, sae, {})
    pair_tokenizer = PairTokenizer(model, max_tokens_to_check=20, chat_template=False)
    items = [pair_tokenizer(*triple).contrast for triple in tiny.triples(2)]  # type: ignore[union-attr]
    (found,) = AblationRunner(model, 300, 1.0, first_position=False).mean_activations(
        [dictionary], items
    )

    rows = []
    for item in items:
        _, cache = model.bridge.run_with_cache(torch.tensor([item.tokens]))
        rows.append(sae.encode(cache[dictionary.hook_name][0, 1:]))
    assert found == pytest.approx(torch.cat(rows).mean(dim=0).detach().numpy(), rel=1e-4, abs=1e-6)


def test_a_batch_that_does_not_fit_is_halved_and_a_text_that_does_not_is_left_out(
    loaded: Callable[[str], Model],
) -> None:
    def work(batch: list[int]) -> list[int]:
        if len(batch) > 2 or 5 in batch:
            raise MemoryError
        return [10 * item for item in batch]

    runner = AblationRunner(loaded("llama"), 1000, 1.0, first_position=True)
    found = runner.in_halves(work, [1, 2, 3, 4, 5, 6, 7], lambda _: 1)

    assert found == [10, 20, 30, 40, None, 60, 70]


def test_another_fault_is_no_matter_of_memory(loaded: Callable[[str], Model]) -> None:
    def work(batch: list[int]) -> list[int]:
        raise RuntimeError(batch)

    runner = AblationRunner(loaded("llama"), 1000, 1.0, first_position=True)
    with pytest.raises(RuntimeError):
        runner.in_halves(work, [1, 2], lambda _: 1)


def test_batches_hold_every_text_once_within_the_budget() -> None:
    lengths = [5, 900, 7, 30, 30, 12]
    batches = batches_of(list(range(6)), lengths.__getitem__, 70)

    assert sorted(i for batch in batches for i in batch) == list(range(6))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 70


# --- changes of the metric


def test_intervals_overlap_where_they_share_a_point() -> None:
    assert overlap([0, 1], [1, 2])
    assert overlap([0, 3], [1, 2])
    assert not overlap([0, 1], [1.1, 2])


def test_a_summary_counts_changes_and_flips() -> None:
    before, after = np.array([1.0, 2.0, -1.0, 3.0]), np.array([-1.0, 1.0, 1.0, -5.0])
    found = summary(before, after[None], np.arange(4), 0)

    assert (found["mean_before"], found["mean_after"]) == (1.25, -1.0)
    assert found["mean_change"] == -2.25
    assert (found["flips"], found["flips_to_base"], found["flips_to_target"]) == (0.75, 0.5, 0.25)


@pytest.mark.parametrize(
    ("shift", "of_controls", "separated", "p", "words"),
    [
        (-2.0, -0.1, True, 1 / 5, "lose more"),
        (-0.1, -0.1, False, None, "No evidence"),
        (2.0, 0.1, True, 1 / 5, "opposite"),
        (-0.2, -2.0, True, 1, "Random features"),
    ],
)
def test_the_verdict_is_plain(
    shift: float, of_controls: float, separated: bool, p: float | None, words: str
) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, size=(6, 50))
    before = noise[0]
    questions = np.arange(50)
    targeted = before + shift + noise[1]
    controls = before + of_controls + noise[2:]
    random = against_controls(before, targeted, controls, questions, 0)

    assert random["separated"] is separated
    assert words in verdict(summary(before, targeted[None], questions, 0), random)
    assert p is None or random["p_random"] == p


# --- control sets


def test_control_sets_are_of_the_same_size_other_features_and_as_active() -> None:
    means = np.concatenate([np.linspace(100, 1, 100), np.zeros(50)])
    selected = [0, 50, 99, 120]
    generator = np.random.default_rng(0)
    for _ in range(50):
        drawn = matched(means, selected, generator)
        assert drawn is not None
        assert len(set(drawn) | set(selected)) == 8
        for feature, control in zip(selected[:3], drawn[:3], strict=True):
            assert abs(feature - control) <= NEIGHBOURS + len(selected)
        assert means[drawn[3]] == 0


def test_a_seed_gives_the_same_control_set_and_another_one_another() -> None:
    means = np.linspace(100, 1, 100)
    draw = [matched(means, range(10), np.random.default_rng(seed)) for seed in (1, 1, 2)]

    assert draw[0] == draw[1] != draw[2]


def test_too_few_active_features_give_no_control_set() -> None:
    assert matched(np.array([3.0, 2.0, 1.0, 0.0]), [0, 1], np.random.default_rng(0)) is None
