"""Capturing proves its hooks, leaves nothing behind, and reads what the plain model holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tiny
import torch

from atp.attribution.batches import Batch
from atp.attribution.capture import HookError, SplitError, capture, check_split_pass
from atp.attribution.contrasts import Contrast
from atp.model.language_model import Model

HOOK = "blocks.2.hook_resid_post"


@pytest.fixture(scope="module")
def model(loaded: Callable[[str], Model]) -> Model:
    """A tiny Llama."""
    return loaded("llama")


def batch(*contrasts: Contrast) -> Batch:
    """Return a batch on the CPU."""
    return Batch.of(contrasts, torch.device("cpu"))


CONTRAST = Contrast((1, 20, 30, 40, 50, 60), prompt_length=4, target_token=70, base_token=80)


def test_residual_and_metric_are_those_of_one_whole_pass(model: Model) -> None:
    found = capture(model, batch(CONTRAST), [HOOK])
    with torch.no_grad():
        output = model.bridge.original_model(
            torch.tensor([CONTRAST.tokens]), output_hidden_states=True
        )
    torch.testing.assert_close(found.residuals[HOOK][0], output.hidden_states[3][0, 3])
    logits = output.logits[0, -1]
    torch.testing.assert_close(found.metric[0], logits[70] - logits[80])


def test_the_gradient_predicts_a_small_change(model: Model) -> None:
    """Central difference of the metric along a direction, in float64, against g."""
    found = capture(model, batch(CONTRAST), [HOOK])
    direction = torch.randn(tiny.D_MODEL, generator=torch.Generator().manual_seed(3))
    step = 1e-2

    def metric(change: float) -> float:
        def push(x: torch.Tensor, hook: object) -> torch.Tensor:
            del hook
            x = x.clone()
            x[0, 3] += change * direction
            return x

        with torch.no_grad(), model.hooks([(HOOK, push)]):
            ids = torch.tensor([CONTRAST.tokens])
            logits = model.bridge.original_model(ids).logits[0, -1].double()
        return float(logits[70] - logits[80])

    slope = (metric(step) - metric(-step)) / (2 * step)
    assert slope == pytest.approx(float(found.gradients[HOOK][0] @ direction), rel=1e-2, abs=1e-4)


@pytest.mark.parametrize(
    "hook", ["blocks.1.hook_mlp_out", "blocks.1.hook_attn_out", "blocks.1.hook_resid_pre"]
)
def test_other_hook_points_give_the_gradient_too(model: Model, hook: str) -> None:
    found = capture(model, batch(CONTRAST), [hook])
    assert found.residuals[hook].shape == (1, tiny.D_MODEL)
    assert found.gradients[hook].abs().max() > 0


def test_a_one_token_prompt_has_no_prefix(model: Model) -> None:
    short = Contrast((1, 20, 30), prompt_length=1, target_token=70, base_token=80)
    alone = capture(model, batch(short), [HOOK])
    padded = capture(model, batch(short, CONTRAST), [HOOK])
    torch.testing.assert_close(alone.metric[0], padded.metric[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        alone.gradients[HOOK][0], padded.gradients[HOOK][0], atol=1e-5, rtol=1e-4
    )


def test_a_hook_point_that_does_not_fire_is_an_error(model: Model) -> None:
    with pytest.raises(HookError, match="fired 0 times"):
        capture(model, batch(CONTRAST), ["blocks.9.hook_resid_post"])


@pytest.mark.parametrize("forgotten", ["cache", "mask"])
def test_a_model_that_ignores_its_cache_or_mask_is_found_out(
    model: Model, monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    check_split_pass(model, [HOOK])
    proper = Model.hidden

    def forgetful(
        self: Model, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: object
    ) -> torch.Tensor:
        if forgotten == "mask":
            return proper(self, ids, torch.ones_like(mask), positions, cache)
        return proper(self, ids, mask[:, -ids.shape[1] :], positions, None)

    monkeypatch.setattr(Model, "hidden", forgetful)
    with pytest.raises(SplitError, match="another logit difference"):
        check_split_pass(model, [HOOK])


def test_nothing_stays_behind(model: Model) -> None:
    """No gradient on any weight, no hook on any hook point, no gradient mode switched."""
    with torch.no_grad():
        capture(model, batch(CONTRAST), [HOOK])
        assert not torch.is_grad_enabled()
    capture(model, batch(CONTRAST), [HOOK])
    assert torch.is_grad_enabled()
    assert all(p.grad is None for p in model.bridge.original_model.parameters())
    assert not model.bridge.hook_dict[HOOK].fwd_hooks
