"""Logits out of the unembedding's rows are the model's own, and an unknown head is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
from tiers import first_tier
from transformers import AutoModelForCausalLM, CohereConfig, GraniteConfig

from atp.errors import UnavailableError
from atp.model.head import TokenHead

CPU = torch.device("cpu")
CONFIGS = {
    **tiny.CONFIGS,
    "cohere": lambda: CohereConfig(**tiny._GATED, logit_scale=0.25),  # noqa: SLF001
    "granite": lambda: GraniteConfig(**tiny._GATED, logits_scaling=4.0),  # noqa: SLF001
}


@pytest.fixture(params=first_tier([*tiny.FAMILIES, "cohere", "granite"], CONFIGS))
def hf_model(request: pytest.FixtureRequest) -> torch.nn.Module:
    """A tiny random model."""
    torch.manual_seed(0)
    model: torch.nn.Module = AutoModelForCausalLM.from_config(CONFIGS[request.param]())
    return model.eval()


def test_rows_give_the_models_own_logits(hf_model: torch.nn.Module) -> None:
    head = TokenHead.of(hf_model)
    ids = torch.randint(3, tiny.VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        full = hf_model(input_ids=ids).logits[:, -1]
        hidden = hf_model.base_model(input_ids=ids).last_hidden_state[:, -1]
        tokens = torch.tensor([[5, 6], [7, 399], [100, 0]])
        torch.testing.assert_close(head.logits(hidden, tokens), full.gather(1, tokens))
    head.check_logits(hf_model, 1, CPU)


@pytest.mark.parametrize("change", [{"soft_cap": 2.0}, {"scale": 1.5}])
def test_a_head_that_misses_what_the_model_does_is_refused(
    hf_model: torch.nn.Module, change: dict[str, float]
) -> None:
    wrong = replace(TokenHead.of(hf_model), **change)
    with pytest.raises(UnavailableError, match="unembedding"):
        wrong.check_logits(hf_model, 1, CPU)


def test_logits_are_float32_for_a_bfloat16_model(hf_model: torch.nn.Module) -> None:
    head = TokenHead.of(hf_model.to(torch.bfloat16))
    hidden = torch.randn(2, tiny.D_MODEL).to(torch.bfloat16)
    tokens = torch.tensor([[3, 4], [5, 6]])
    logits = head.logits(hidden, tokens)
    assert logits.dtype == torch.float32
    wide = replace(head, weight=head.weight.double(), bias=None if head.bias is None else head.bias)
    exact = torch.einsum("bd,bnd->bn", hidden.double(), wide.weight[tokens])
    if head.bias is not None:
        exact = exact + head.bias[tokens].double()
    exact = exact * head.scale
    if head.soft_cap is not None:
        exact = head.soft_cap * torch.tanh(exact / head.soft_cap)
    torch.testing.assert_close(logits.double(), exact, rtol=1e-5, atol=1e-5)
