"""Divergence, intervals, control sets and tests of flags: against plain sums and known values."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from rerun import Ablated
from scipy.stats import binom
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.proportion import proportion_confint

from atp.attribution import divergence
from atp.intervention import passes
from atp.intervention.ablate import FeatureSet
from atp.intervention.comparison import mcnemar, newcombe, wilson
from atp.intervention.controls import NEAREST, matched
from atp.intervention.intervals import Bootstrap, overlap
from atp.intervention.metric_changes import against_controls, summary, verdict
from atp.intervention.runner import AblationRunner
from atp.model.dictionaries.loading import Dictionary
from atp.model.loading import Model
from atp.model.pair_tokenizer import PairTokenizer, Text

FEATURES = tuple(range(0, tiny.D_SAE, 3))


# --- side effects


@pytest.mark.parametrize("architecture", tiny.CONFIGS)
@pytest.mark.parametrize("batch_tokens", [1, 1000])
def test_kl_and_perplexity_are_those_of_full_logits(
    model_folder: Callable[[str], Path],
    loaded: Callable[[str], Model],
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    batch_tokens: int,
) -> None:
    monkeypatch.setattr(divergence, "AT_ONCE", 5 * tiny.VOCABULARY)
    model, plain = loaded(architecture), Ablated(model_folder(architecture))
    sae = tiny.make_sae("standard")
    dictionary = Dictionary("memory", "tiny", sae.cfg.metadata.hook_name, sae, {})
    pair_tokenizer = PairTokenizer(model, max_tokens_to_check=20, chat_template=False)
    texts = [pair_tokenizer.text(prompt, base) for prompt, _, base in tiny.triples(2)]
    assert all(isinstance(text, Text) for text in texts)
    trial = AblationRunner(model, batch_tokens, 1.0, first_position=False)
    (found,) = trial.side_effects(texts, [[FeatureSet(dictionary, FEATURES)]])

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


@pytest.mark.parametrize("architecture", tiny.CONFIGS)
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
    trial = AblationRunner(model, 500, 1.0, first_position=True)
    with trial.without([FeatureSet(dictionary, FEATURES)]):
        found = trial.metrics(contrasts)

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

    found = passes.halving(loaded("llama"), work, [1, 2, 3, 4, 5, 6, 7], lambda _: 1)

    assert found == [10, 20, 30, 40, None, 60, 70]


def test_another_fault_is_no_matter_of_memory(loaded: Callable[[str], Model]) -> None:
    def work(batch: list[int]) -> list[int]:
        raise RuntimeError(batch)

    with pytest.raises(RuntimeError):
        passes.halving(loaded("llama"), work, [1, 2], lambda _: 1)


def test_batches_hold_every_text_once_within_the_budget() -> None:
    lengths = [5, 900, 7, 30, 30, 12]
    batches = passes.batches_of(lengths, 70)

    assert sorted(i for batch in batches for i in batch) == list(range(6))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 70


# --- intervals


def test_the_interval_of_independent_pairs_is_that_of_their_mean() -> None:
    values = np.random.default_rng(0).normal(1.0, 2.0, size=400)
    low, high = Bootstrap(np.arange(400), 0).interval(values[None]) or [0, 0]
    half = 1.96 * values.std() / 20

    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)


def test_pairs_of_a_question_that_repeat_each_other_make_the_interval_no_narrower() -> None:
    values = np.random.default_rng(0).normal(size=40)
    one = Bootstrap(np.arange(40), 0).interval(values[None])
    repeated = Bootstrap(np.repeat(np.arange(40), 10), 0).interval(np.repeat(values, 10)[None])

    assert one == pytest.approx(repeated)


def test_sets_that_differ_make_the_interval_wider_than_one_set() -> None:
    values = np.zeros((4, 30)) + np.array([-3.0, -1.0, 1.0, 3.0])[:, None]
    bootstrap = Bootstrap(np.arange(30), 0)

    assert bootstrap.interval(values[:1]) == [-3.0, -3.0]
    low, high = bootstrap.interval(values) or [0, 0]
    assert low < -1 < 1 < high


def test_one_question_gives_no_interval() -> None:
    assert Bootstrap(np.array([3, 3, 3]), 0).interval(np.ones((1, 3))) is None


def test_intervals_overlap_where_they_share_a_point() -> None:
    assert overlap([0, 1], [1, 2])
    assert overlap([0, 3], [1, 2])
    assert not overlap([0, 1], [1.1, 2])


def test_a_summary_counts_changes_and_flips() -> None:
    before, after = np.array([1.0, 2.0, -1.0, 3.0]), np.array([-1.0, 1.0, 1.0, -5.0])
    found = summary(before, after[None], Bootstrap(np.arange(4), 0))

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
    bootstrap = Bootstrap(np.arange(50), 0)
    targeted = before + shift + noise[1]
    random = against_controls(before, targeted, before + of_controls + noise[2:], bootstrap)

    assert random["separated"] is separated
    assert words in verdict(summary(before, targeted[None], bootstrap), random)
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
            assert abs(feature - control) <= NEAREST + len(selected)
        assert means[drawn[3]] == 0


def test_a_seed_gives_the_same_control_set_and_another_one_another() -> None:
    means = np.linspace(100, 1, 100)
    draw = [matched(means, range(10), np.random.default_rng(seed)) for seed in (1, 1, 2)]

    assert draw[0] == draw[1] != draw[2]


def test_too_few_active_features_give_no_control_set() -> None:
    assert matched(np.array([3.0, 2.0, 1.0, 0.0]), [0, 1], np.random.default_rng(0)) is None


# --- flags


@pytest.mark.parametrize(("before", "after"), [(0, 0), (5, 0), (3, 9), (10, 10), (40, 15)])
def test_mcnemar_is_statsmodels(before: int, after: int) -> None:
    theirs = their_mcnemar([[7, before], [after, 11]], exact=True).pvalue

    assert mcnemar(before, after) == pytest.approx(min(1.0, float(theirs)) if before + after else 1)


@pytest.mark.parametrize(("count", "n"), [(0, 9), (4, 9), (9, 9), (250, 1000)])
def test_wilson_is_statsmodels(count: int, n: int) -> None:
    assert wilson(count / n, n) == pytest.approx(proportion_confint(count, n, method="wilson"))


def test_without_correlation_newcombe_is_the_square_and_add_of_wilsons() -> None:
    # Margins of independent halves: both = n * before * after, so that phi is 0.
    low, high = newcombe(4, 4, 4, 16)
    one, other = wilson(0.5, 16)
    reach = math.hypot(0.5 - one, other - 0.5)

    assert (low, high) == pytest.approx((-reach, reach))


def test_newcombe_turns_with_the_files() -> None:
    low, high = newcombe(20, 12, 3, 50)

    assert newcombe(20, 3, 12, 50) == pytest.approx([-high, -low])


def test_newcombe_holds_the_true_difference_as_often_as_it_says() -> None:
    n, up, down, both = 30, 0.1, 0.3, 0.3
    held = 0.0
    for changed in range(n + 1):  # exact: all tables of given discordance, the rest split evenly
        weight = binom.pmf(changed, n, up + down)
        for ups in range(changed + 1):
            share = binom.pmf(ups, changed, up / (up + down))
            same = round((n - changed) * both / (1 - up - down))
            low, high = newcombe(same, changed - ups, ups, n)
            held += weight * share * (low <= up - down <= high)

    assert 0.93 <= held <= 0.985
