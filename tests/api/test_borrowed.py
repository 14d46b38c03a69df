"""Objects in memory give the numbers of their names, and are as before: also after an exception."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiers import first_tier
from torch import nn
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer

from atp import ablate, attribute, exact_effects, generate, load_model, load_sae
from atp.errors import SettingsError
from atp.model.language_model import Model

ModelFolder = Callable[[str], Path]
Loaded = Callable[[str], Model]
PAIRS = tiny.triples(2)
FEATURES = tuple(range(0, tiny.D_SAE, 3))
ARCHITECTURES = first_tier(["llama", "qwen2"], tiny.CONFIGS)


def plain(folder: Path) -> Any:
    """Return a Hugging Face model as a notebook may hold it: used, and in training mode."""
    return used(AutoModelForCausalLM.from_pretrained(folder))


def bridged(folder: Path) -> Any:
    """Return a TransformerBridge, likewise."""
    return used(TransformerBridge.boot_transformers(str(folder), device="cpu"))


def used(model: Any) -> Any:
    """Run a model once, and leave it in training mode."""
    model(torch.arange(8)[None] + 7)
    return model.train()


KINDS = {"a Hugging Face model": plain, "a TransformerBridge": bridged}


def state(*modules: nn.Module) -> list[Any]:
    """Return all of some modules that a call might change."""
    found: list[Any] = []
    for module in modules:
        inner = getattr(module, "original_model", module)
        for root in dict.fromkeys((module, inner)):
            for name, part in root.named_modules():
                own = {key: id(value) for key, value in vars(part).items()}
                hooks = [dict(part._forward_hooks), dict(part._forward_pre_hooks)]  # noqa: SLF001
                lens = [list(getattr(part, key, ())) for key in ("fwd_hooks", "bwd_hooks")]
                for key in ("fwd_hooks", "_block_alias_cache"):  # a new list; a bridge's own cache
                    own.pop(key, None)
                found.append((name, id(part), part.training, own, hooks, lens))
            for name, tensor in (*root.named_parameters(), *root.named_buffers()):
                facts = (tensor.device, tensor.dtype, tensor.requires_grad, tensor.grad)
                found.append((name, id(tensor), tensor.data_ptr(), *facts, tensor.tolist()))
        config = getattr(inner, "config", None) or inner.cfg
        found.append(repr(config.to_dict()))
    return [*found, torch.is_grad_enabled(), torch.get_rng_state().tolist()]


@contextmanager
def unchanged(*modules: nn.Module) -> Iterator[None]:
    """Compare the state of modules before and after, however the context ends."""
    before = state(*modules)
    try:
        yield
    finally:
        after = state(*modules)
        for one, other in zip(before, after, strict=True):
            assert one == other


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_in_memory_gives_the_numbers_of_its_name_and_stays_as_it_was(
    model_folder: ModelFolder, architecture: str, kind: str
) -> None:
    folder = model_folder(architecture)
    sae = tiny.make_sae("standard, layer_norm")
    expected = attribute(load_model(folder, device="cpu"), sae, PAIRS)
    model = KINDS[kind](folder)
    tokenizer = AutoTokenizer.from_pretrained(folder) if kind.startswith("a Hugging") else None
    with unchanged(model, sae):
        found = attribute(model, sae, PAIRS, tokenizer=tokenizer)

    assert found.analyses == expected.analyses
    assert torch.equal(found.scores, expected.scores)
    assert all(parameter.requires_grad for parameter in sae.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_every_function_leaves_what_it_takes_as_it_was(
    model_folder: ModelFolder, kind: str
) -> None:
    folder = model_folder("llama")
    model, sae = KINDS[kind](folder), tiny.make_sae("jumprelu").train()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with unchanged(model, sae):
        exact_effects(model, sae, PAIRS, FEATURES[:3], tokenizer=tokenizer)
        attribute(model, sae, PAIRS, tokenizer=tokenizer, method="ig", ig_steps=2)
        generate(model, ["Why?"], tokenizer=tokenizer, max_new_tokens=3)
        with ablate(model, sae, FEATURES, tokenizer=tokenizer):
            pass
        load_model(model, tokenizer=tokenizer)
        load_sae(sae)


@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_leaves_it_as_it_was(
    model_folder: ModelFolder, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a callback of the caller's, in the midst of scoring; and one inside `ablate`."""
    folder = model_folder("llama")
    model, sae = KINDS[kind](folder), tiny.make_sae("topk, layer_norm")
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("atp.scoring.scorer.pair_analyses", interrupt)
    with unchanged(model, sae), pytest.raises(KeyboardInterrupt):
        attribute(model, sae, PAIRS, tokenizer=tokenizer)
    with unchanged(model, sae), pytest.raises(ZeroDivisionError):  # noqa: SIM117
        with ablate(model, sae, FEATURES, tokenizer=tokenizer):
            raise ZeroDivisionError


def test_an_sae_on_another_device_or_in_another_dtype_is_copied(loaded: Loaded) -> None:
    """There is one device here: "meta" would show that its place, or the weights, had changed."""
    model, sae = loaded("llama"), tiny.make_sae("standard")
    expected = attribute(model, sae, PAIRS)
    narrow = deepcopy(sae).to(torch.bfloat16)
    rounded = attribute(model, deepcopy(narrow).to(torch.float32), PAIRS)
    with unchanged(narrow):
        found = attribute(model, narrow, PAIRS)

    assert found.scores.dtype == torch.float32
    assert found.analyses == rounded.analyses != expected.analyses
    dictionary = load_sae(sae)
    dictionary.sae.to("meta")
    assert next(sae.parameters()).device.type == "cpu"


@pytest.mark.parametrize("kind", first_tier(["jumprelu", "topk, layer_norm"], tiny.SAE_KINDS))
def test_an_sae_in_memory_is_the_one_in_its_folder(
    loaded: Loaded, tmp_path: Path, kind: str
) -> None:
    sae = tiny.make_sae(kind)
    sae.save_model(tmp_path)
    named, held = (attribute(loaded("llama"), each, PAIRS) for each in (tmp_path, sae))

    assert held.analyses == named.analyses
    assert held.sae["sha256"] == named.sae["sha256"]
    assert held.sae["spec"] == "layer1-128"


def test_weights_are_shared_and_seen(loaded: Loaded) -> None:
    sae = tiny.make_sae("standard")
    dictionary = load_sae(sae)
    before = attribute(loaded("llama"), dictionary, PAIRS).scores
    with torch.no_grad():
        sae.W_dec.mul_(2)
    after = attribute(loaded("llama"), dictionary, PAIRS).scores

    assert dictionary.sae.W_dec.data_ptr() == sae.W_dec.data_ptr()
    assert (after - 2 * before).abs().max() <= 1e-5 * after.abs().max()


def test_the_callers_hooks_act(model_folder: ModelFolder) -> None:
    """A model that the caller steers is scored as it is steered."""
    folder = model_folder("llama")
    tokenizer, sae = AutoTokenizer.from_pretrained(folder), tiny.make_sae("standard")
    steered = []
    for kind in KINDS.values():
        model = kind(folder)
        layers = (model if kind is plain else model.original_model).model.layers
        before = attribute(model, sae, PAIRS, tokenizer=tokenizer).metric
        layers[2].mlp.register_forward_hook(lambda _module, _inputs, output: output + 1)
        after = attribute(model, sae, PAIRS, tokenizer=tokenizer).metric
        assert (after != before).all()
        steered.append(after)
    assert torch.allclose(*steered, atol=1e-5)


# --- ablate


@pytest.mark.parametrize("kind", KINDS)
def test_the_callers_own_object_runs_without_the_features(
    model_folder: ModelFolder, loaded: Loaded, kind: str
) -> None:
    """Its passes, its generation, and what atp makes of it; nested contexts add up."""
    folder, sae, other = model_folder("llama"), tiny.make_sae("standard"), tiny.make_sae("topk")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, reference = KINDS[kind](folder).eval(), loaded("llama")
    ids = tokenizer("Please comment.", return_tensors="pt").input_ids

    def logits() -> torch.Tensor:
        with torch.no_grad():
            found = model(ids)
        return found.logits if hasattr(found, "logits") else found

    def hidden() -> torch.Tensor:
        with torch.no_grad():
            return (
                (model if kind.startswith("a Hug") else model.original_model)
                .base_model(ids)
                .last_hidden_state
            )

    before = logits(), hidden()
    with ablate(reference, sae, FEATURES):
        expected = attribute(reference, other, PAIRS)
        text = generate(reference, ["Please comment."], max_new_tokens=6)
        with ablate(reference, other, FEATURES):
            both = attribute(reference, sae, PAIRS).metric
    with ablate(model, sae, FEATURES, tokenizer=tokenizer) as same:
        assert same is model
        assert (logits() - before[0]).abs().max() > 0.01
        assert (hidden() - before[1]).abs().max() > 0.01
        found = attribute(model, other, PAIRS, tokenizer=tokenizer)
        assert generate(model, ["Please comment."], tokenizer=tokenizer, max_new_tokens=6) == text
        with ablate(model, other, FEATURES, tokenizer=tokenizer):
            nested = attribute(model, sae, PAIRS, tokenizer=tokenizer).metric
        assert torch.equal(attribute(model, other, PAIRS, tokenizer=tokenizer).metric, found.metric)

    assert torch.allclose(found.metric, expected.metric, atol=1e-4)
    assert torch.allclose(nested, both, atol=1e-4)
    assert torch.equal(logits(), before[0])


def test_a_hugging_face_models_own_generation_runs_without_the_features(
    model_folder: ModelFolder, loaded: Loaded
) -> None:
    folder, sae = model_folder("llama"), tiny.make_sae("standard")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = plain(folder).eval()
    (expected,) = generate(loaded("llama"), ["Please comment."], max_new_tokens=6)
    ids = torch.tensor([[1, *tokenizer("Please comment.", add_special_tokens=False).input_ids]])

    def written() -> tuple[int, ...]:
        options = {"max_new_tokens": 6, "do_sample": False}
        return tuple(model.generate(ids, **options)[0, ids.shape[1] :].tolist())

    assert written() == expected.tokens
    with ablate(model, sae, FEATURES, tokenizer=tokenizer), ablate(loaded("llama"), sae, FEATURES):
        (without,) = generate(loaded("llama"), ["Please comment."], max_new_tokens=6)
        assert written() == without.tokens != expected.tokens
    assert written() == expected.tokens


def test_gradients_of_an_ablated_model_reach_the_callers_weights(model_folder: ModelFolder) -> None:
    folder = model_folder("llama")
    model = plain(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with ablate(model, tiny.make_sae("standard"), FEATURES, tokenizer=tokenizer):
        model(torch.arange(8)[None] + 7).logits.sum().backward()

    assert model.model.layers[0].mlp.up_proj.weight.grad.abs().sum() > 0


# --- refusals


def test_an_object_that_would_give_wrong_numbers_is_refused(
    model_folder: ModelFolder, loaded: Loaded
) -> None:
    folder, sae = model_folder("llama"), tiny.make_sae("standard")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with pytest.raises(SettingsError, match="needs its tokenizer"):
        attribute(plain(folder), sae, PAIRS)
    with pytest.raises(SettingsError, match="in float16"):
        attribute(plain(folder).half(), sae, PAIRS, tokenizer=tokenizer)
    with pytest.raises(SettingsError, match="weights are on meta"):
        attribute(plain(folder).to("meta"), sae, PAIRS, tokenizer=tokenizer)
    with pytest.raises(SettingsError, match="are for a model that is loaded by its name"):
        load_model(plain(folder), tokenizer=tokenizer, dtype="bfloat16")
    processed = bridged(folder)
    processed.enable_compatibility_mode(disable_warnings=True)
    with pytest.raises(SettingsError, match="compatibility mode"):
        attribute(processed, sae, PAIRS)
    model = load_model(folder, device="cpu")
    model.bridge.train()
    with pytest.raises(SettingsError, match="in training mode"):
        attribute(model, sae, PAIRS)
    nameless = tiny.make_sae("standard")
    nameless.cfg.metadata.hook_name = None
    with pytest.raises(SettingsError, match="does not say which hook point it reads"):
        attribute(loaded("llama"), nameless, PAIRS)


def test_a_training_sae_is_scored_as_the_sae_it_becomes(loaded: Loaded, tmp_path: Path) -> None:
    """In training, SAELens holds an SAE of another class."""
    from sae_lens import StandardTrainingSAE, StandardTrainingSAEConfig  # noqa: PLC0415

    sae = tiny.make_sae("standard")
    config = StandardTrainingSAEConfig(d_in=tiny.D_MODEL, d_sae=tiny.D_SAE, dtype="float32")
    config.metadata.hook_name = sae.cfg.metadata.hook_name
    training = StandardTrainingSAE(config)
    training.load_state_dict(sae.state_dict())
    with unchanged(training):
        found = attribute(loaded("llama"), training, PAIRS)

    expected = attribute(loaded("llama"), sae, PAIRS)
    assert torch.allclose(found.scores, expected.scores, atol=1e-6)
