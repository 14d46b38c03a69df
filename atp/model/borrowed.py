"""A caller's own model as a Model: it shares the caller's weights, and all else is a copy.

So a call changes neither mode, gradients, hooks nor configuration of the caller's object, and there
is nothing to restore after an error. Changes to the weights in place are seen; a copy that was made
before the caller moved the model to another device is not moved.
"""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn
from transformer_lens.model_bridge import TransformerBridge
from transformers import PreTrainedModel

from atp.errors import SettingsError
from atp.model.bridge_patches import boot, wire_anew
from atp.model.head import TokenHead
from atp.model.language_model import Model
from atp.model.loading import check_packing, loading_errors, wrap
from atp.model.names import short_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

ORIGIN = {"weights": "in memory"}  # nothing pins them
DTYPES = (torch.float32, torch.bfloat16)
HOOK_TABLES = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
"""Where torch keeps the hooks of a module."""

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def borrow(model: object, tokenizer: Any = None) -> Model:  # noqa: ANN401  (transformers' own)
    """Return a Model of a TransformerBridge, or of a Hugging Face model and its tokenizer.

    It is frozen and in evaluation mode, and has the hooks that the caller's object has now. A
    SettingsError says why there is none.
    """
    with _own_random_numbers(model):
        bridge, own_tokenizer = _bridge_and_tokenizer(model, tokenizer, frozen=True)
    return wrap(_name(bridge.original_model), bridge, own_tokenizer, dict(ORIGIN))


@contextmanager
def live(model: object, tokenizer: Any = None) -> Iterator[Model]:  # noqa: ANN401  (as above)
    """Yield a Model whose hooks act in the caller's object while the context lasts.

    It may be in training mode. A Hugging Face model has no hook points: its passes, and those of
    its base model, run through a bridge in the meantime.
    """
    if isinstance(model, Model):
        yield model
        return
    if isinstance(model, TransformerBridge):
        bridge, own_tokenizer = model, tokenizer or _published_tokenizer(model)
        _check_bridge(bridge)
        yield _unchecked(bridge, own_tokenizer)
        return
    routed = _routed_bridge(model)
    if routed is not None:  # nested: the outer context has made the bridge
        yield _unchecked(routed, tokenizer)
        return
    with _own_random_numbers(model):
        bridge, own_tokenizer = _bridge_and_tokenizer(model, tokenizer, frozen=False)
    given: Any = model
    copied = bridge.original_model
    with _routed(given, copied, bridge), _routed(given.base_model, copied.base_model, bridge):
        yield _unchecked(bridge, own_tokenizer)


def _own_random_numbers(model: object) -> AbstractContextManager[None]:
    """Return a context that takes no random numbers from the caller's: a bridge fills weights."""
    devices = {parameter.device for parameter in getattr(model, "parameters", tuple)()}
    gpus = [device for device in devices if device.type == "cuda"]
    return torch.random.fork_rng(gpus)


def _bridge_and_tokenizer(
    model: object,
    tokenizer: Any,  # noqa: ANN401
    *,
    frozen: bool,
) -> tuple[TransformerBridge, Any]:
    routed = _routed_bridge(model)
    if isinstance(model, TransformerBridge):
        tokenizer = tokenizer or _published_tokenizer(model)
    elif not isinstance(model, PreTrainedModel):
        msg = f"a {type(model).__name__} is no model that atp can run."
        hint = "Give a name, or a TransformerBridge, or a Hugging Face model and its tokenizer."
        raise SettingsError(msg, hint)
    if tokenizer is None:
        msg = "a Hugging Face model needs its tokenizer."
        raise SettingsError(msg, "Pass tokenizer=AutoTokenizer.from_pretrained(NAME).")
    source = model if routed is None else routed
    if isinstance(source, TransformerBridge):
        _check_bridge(source)
        copied_bridge = _copied(source, frozen=frozen)
        wire_anew(copied_bridge)
        return copied_bridge, tokenizer
    _check_weights(source)
    name = _name(source)
    with loading_errors(name):
        copied = _copied(source, frozen=frozen)
        copied.config._attn_implementation = "eager"  # noqa: SLF001  (as the bridge needs it)
        weight = next(copied.parameters())
        bridge = boot(
            name,
            hf_model=copied,
            tokenizer=deepcopy(tokenizer),  # the bridge alters it
            device=str(weight.device),
            dtype=weight.dtype,
        )
    return bridge, tokenizer


def _copied(module: AnyModule, *, frozen: bool) -> AnyModule:
    """Return a copy of a module that shares its weights; frozen, or with the same parameters.

    Hooks are the same functions: a copy of one would no longer write where its owner reads.
    """
    inner = getattr(module, "original_model", module)  # of a bridge, which hides some parts
    memo: dict[int, Any] = {id(buffer): buffer for buffer in module.buffers()}
    for parameter in (*module.parameters(), *inner.parameters()):
        share = parameter
        if frozen and parameter.requires_grad:
            share = nn.Parameter(parameter.detach(), requires_grad=False)
        memo.setdefault(id(parameter), share)
    for part in (*module.modules(), *inner.modules()):
        memo |= {  # left there by a pass with gradients, whose results cannot be copied
            id(value): value.detach()
            for value in vars(part).values()
            if isinstance(value, torch.Tensor) and not value.is_leaf
        }
        hooks = [hook for table in HOOK_TABLES for hook in vars(part).get(table, {}).values()]
        handles = (*getattr(part, "fwd_hooks", ()), *getattr(part, "bwd_hooks", ()))
        memo |= {id(hook): hook for hook in (*hooks, *(handle.user_hook for handle in handles))}
    return deepcopy(module, memo)


def _unchecked(bridge: TransformerBridge, tokenizer: Any) -> Model:  # noqa: ANN401
    """Return a Model of a bridge as it is."""
    hf_model = bridge.original_model
    weight = next(hf_model.parameters())
    head = TokenHead.of(hf_model)
    device, dtype = weight.device, weight.dtype
    return Model(_name(hf_model), dict(ORIGIN), bridge, tokenizer, head, device, dtype)


@contextmanager
def _routed(module: nn.Module, to: nn.Module, bridge: TransformerBridge) -> Iterator[None]:
    """Let passes of a module run through another one, whose bridge is found again on it."""

    @wraps(module.forward)  # Transformers reads the signature
    def forward(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        return to(*arguments, **named)

    forward.bridge = bridge  # type: ignore[attr-defined]
    own = {name: value for name, value in vars(module).items() if name == "forward"}
    vars(module)["forward"] = forward
    try:
        yield
    finally:
        vars(module).pop("forward")
        vars(module).update(own)


def _routed_bridge(model: object) -> TransformerBridge | None:
    return getattr(getattr(model, "__dict__", {}).get("forward"), "bridge", None)


def _check_bridge(bridge: TransformerBridge) -> None:
    if bridge.compatibility_mode:
        msg = "the TransformerBridge has processed weights (compatibility mode)."
        raise SettingsError(msg, "atp runs models as published: boot another one without it.")
    _check_weights(bridge.original_model)


def _check_weights(hf_model: Any) -> None:  # noqa: ANN401  (any Hugging Face model)
    check_packing(hf_model.config, _name(hf_model))
    devices = {str(parameter.device) for parameter in hf_model.parameters()}
    if len(devices) > 1 or "meta" in devices:
        msg = f"the model's weights are on {', '.join(sorted(devices))}."
        hint = "atp needs all of them on one device; it can split a model that it loads by name."
        raise SettingsError(msg, hint)
    dtype = next(hf_model.parameters()).dtype
    if dtype not in DTYPES:
        msg = f"the model's weights are in {str(dtype).removeprefix('torch.')}."
        raise SettingsError(msg, "atp takes bfloat16 and float32.")


def _published_tokenizer(bridge: TransformerBridge) -> Any:  # noqa: ANN401  (transformers' own)
    """Return a bridge's tokenizer without the BOS token that transformer_lens invents."""
    tokenizer = bridge.tokenizer
    if tokenizer is None:
        msg = "the TransformerBridge has no tokenizer."
        raise SettingsError(msg, "Pass tokenizer=.")
    if tokenizer.init_kwargs.get("bos_token") is None and tokenizer.bos_token is not None:
        tokenizer = deepcopy(tokenizer)
        tokenizer.bos_token = None
    return tokenizer


def _name(hf_model: Any) -> str:  # noqa: ANN401  (any Hugging Face model)
    name = getattr(hf_model.config, "name_or_path", None)
    return short_name(str(name)) if name else type(hf_model).__name__
