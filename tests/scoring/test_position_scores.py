"""The scores of a prompt's tokens are those of the plain model; the faint ones are left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from rerun import Rerun

from atp import attribute
from atp.model.dictionaries.loading import Dictionary
from atp.model.language_model import Model

TRIPLES = tiny.triples(1)[:2]
BOUND, FAINTEST = 1e-4, 0.01


@pytest.fixture(params=["gemma2", "qwen2"])
def parts(
    request: pytest.FixtureRequest,
    model_folder: Callable[[str], Path],
    loaded: Callable[[str], Model],
) -> tuple[Model, Dictionary, Rerun]:
    """Return a model with or without a BOS token, an SAE, and the plain model."""
    sae = tiny.make_sae("topk")
    dictionary = Dictionary("memory", "tiny", sae.cfg.metadata.hook_name, sae, {})
    return (
        loaded(request.param),
        dictionary,
        Rerun(str(model_folder(request.param)), sae, tiny.HOOK_LAYER),
    )


def scores_of_prompt(plain: Rerun, texts: list[Any], first: int) -> torch.Tensor:
    """Return the plain model's scores at each token of the prompt, (position, feature)."""
    length = texts[0].prompt_length
    x = plain.residuals(texts[0])
    g = sum(plain.gradients(text)[:length] for text in texts)
    assert isinstance(g, torch.Tensor)
    rows = [plain.features(x[at]) * plain.per_feature(x[at], g[at]) for at in range(length)]
    return torch.stack([torch.zeros_like(rows[0])] * first + rows[first:])


@pytest.mark.parametrize("sequence_tokens", [None, 3])
def test_token_scores_are_those_of_the_plain_model(
    parts: tuple[Model, Dictionary, Rerun], sequence_tokens: int | None
) -> None:
    model, dictionary, plain = parts
    how: dict[str, Any] = {"position": "all", "sequence_tokens": sequence_tokens}
    uncut = cut = 0
    for triple, analysis in zip(
        TRIPLES, attribute(model, dictionary, TRIPLES, top_k=40, **how), strict=True
    ):
        texts = plain.texts(*triple, sequence_tokens)
        by_token = scores_of_prompt(plain, texts, int(model.bos_token_id is not None))
        for feature in analysis["top_features"]:
            expected = by_token[:, int(feature["id"])]
            largest, noise = expected.abs().max(), BOUND * by_token.abs().max()
            written = feature["token_scores"]
            at = written["positions"]
            assert at == sorted(at)
            found = torch.zeros_like(expected)
            found[at] = torch.tensor(written["scores"])
            assert (found - expected)[at].abs().max() <= noise
            left_out = torch.ones_like(expected, dtype=torch.bool)
            left_out[at] = False
            assert (expected[left_out].abs() <= FAINTEST * largest + noise).all()
            assert (expected[at].abs() >= FAINTEST * largest - noise).all()
            if left_out[expected != 0].any():
                cut += 1
            else:
                uncut += 1
                total = sum(written["scores"])
                assert total == pytest.approx(feature["score"], rel=1e-5, abs=1e-6)
    assert uncut
    assert cut


def test_the_tokens_of_the_prompt_stand_at_their_positions(
    parts: tuple[Model, Dictionary, Rerun],
) -> None:
    model, dictionary, plain = parts
    for triple, analysis in zip(
        TRIPLES, attribute(model, dictionary, TRIPLES, position="all"), strict=True
    ):
        tokens = analysis["prompt_tokens"]
        bos = ["<bos>"] if model.bos_token_id is not None else []
        assert "".join(tokens) == "".join([*bos, triple[0]])
        assert len(tokens) == plain.texts(*triple)[0].prompt_length
        assert len(tokens) > max(
            position
            for feature in analysis["top_features"]
            for position in feature["token_scores"]["positions"]
        )


def test_a_feature_without_a_score_has_no_token_scores(
    parts: tuple[Model, Dictionary, Rerun],
) -> None:
    model, dictionary, _ = parts
    (analysis,) = attribute(model, dictionary, TRIPLES[:1], position="all", top_k=tiny.D_SAE)
    silent = [feature for feature in analysis["top_features"] if not feature["score"]]
    assert silent
    assert all(each["token_scores"] == {"positions": [], "scores": []} for each in silent)


@pytest.mark.parametrize("position", ["last", "tail"])
def test_other_positions_write_no_tokens(
    parts: tuple[Model, Dictionary, Rerun], position: str
) -> None:
    model, dictionary, _ = parts
    (analysis,) = attribute(model, dictionary, TRIPLES[:1], position=position)
    assert "prompt_tokens" not in analysis
    assert all("token_scores" not in feature for feature in analysis["top_features"])
