"""Cards that a machine does not have: tensors on "cpu:0" and "cpu:1", with real numbers.

A tensor on a card is a shell around one in host memory. An operation computes with what is inside,
but first it refuses operands on several cards, as CUDA does; only copies may cross. torch takes
"cpu:1" for "cpu": the shells keep the cards apart, and host memory ("cpu") from both.
"""

# ruff: noqa: SLF001  (the interface of the dispatcher is private)

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import swap_tensors
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

CROSSING = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
INDEXING = {
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
    torch.ops.aten._index_put_impl_.default,
}
"""Their indices may be in host memory."""
PAST_THE_DISPATCHER = {Tensor.tolist, Tensor.numpy, Tensor.data_ptr}
"""They read memory themselves."""


class MixedCardsError(RuntimeError):
    """An operation has operands on several cards."""


class OnCard(torch.Tensor):
    """A tensor on a card."""

    held: Tensor
    card: torch.device

    @classmethod
    def of(cls, held: Tensor, card: torch.device) -> OnCard:
        """Put a tensor of the host on a card."""
        shell: OnCard = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=card,
            dispatch_device=True,
        )
        shell.held, shell.card = held.detach(), card
        return shell

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Compute; the default would make shells of plain results."""
        del types
        if func in PAST_THE_DISPATCHER:
            args = (args[0].held, *args[1:])
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Compute."""
        del types
        return _compute(func, args, kwargs or {})


class _Dispatched(TorchDispatchMode):
    """For operations that make a tensor on a card of none, or of one in host memory."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        del types
        return _compute(func, args, kwargs or {})


class _Called(TorchFunctionMode):
    """For what the dispatcher does not see: the device of torch.tensor, a parameter's new data."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        del types
        named = dict(kwargs or {})
        if func is torch.tensor and (device := named.pop("device", None)) is not None:
            return torch.tensor(*args, **named).to(device)
        if func == Tensor.data.__set__ and type(args[0].data) is not type(args[1]):
            swap_tensors(args[0], nn.Parameter(args[1], requires_grad=args[0].requires_grad))
            return None
        return func(*args, **named)


def _compute(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if func is torch.ops.prim.device.default:
        return args[0].card
    operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    cards = [operand.card for operand in operands if isinstance(operand, OnCard)]
    if func not in CROSSING:
        indices = {id(leaf) for leaf in tree_leaves(args[1])} if func in INDEXING else set()
        on_host = [
            operand
            for operand in operands
            if not isinstance(operand, OnCard) and operand.ndim and id(operand) not in indices
        ]
        if len(set(cards)) > 1 or (cards and on_host):
            where = ", ".join(str(operand.device) for operand in operands)
            msg = f"{func} has operands on {where}"
            raise MixedCardsError(msg)
    elif operands and not isinstance(operands[0], OnCard):
        cards = []  # a copy into host memory
    card = cards[0] if cards else None
    named = dict(kwargs)
    if (target := named.get("device")) is not None:
        card = None if target.index is None else target
        named["device"] = torch.device(target.type)

    def inside(value: Any) -> Any:
        return value.held if isinstance(value, OnCard) else value

    found = func(*tree_map(inside, args), **tree_map(inside, named))
    if card is None:
        return found

    def shell(value: Any) -> Any:
        return OnCard.of(value, card) if isinstance(value, Tensor) else value

    return return_and_correct_aliasing(func, args, kwargs, tree_map(shell, found))


@contextmanager
def two_cards() -> Iterator[None]:
    """Have torch know the cards "cpu:0" and "cpu:1" while the context lasts, in this thread."""
    with _Called(), _Dispatched():
        yield


def split(hf_model: nn.Module, below: int) -> dict[str, int | str]:
    """Return a device map: the embedding and the first layers on one card, the rest on the other.

    The unembedding goes with the embedding where they are one, as Transformers does it.
    """
    model: Any = hf_model
    ends = model.get_input_embeddings(), model.get_output_embeddings()
    first = {id(ends[0])} | ({id(ends[1])} if ends[0].weight is ends[1].weight else set())
    layers = next(part for part in model.get_decoder().modules() if isinstance(part, nn.ModuleList))
    first |= {id(layer) for layer in layers[:below]}
    device_map: dict[str, int | str] = {}

    def place(name: str, module: nn.Module) -> None:
        if id(module) in first:
            device_map[name] = "cpu:0"
        elif any(id(part) in first for part in module.modules()):
            for child_name, child in module.named_children():
                place(f"{name}.{child_name}".lstrip("."), child)
        else:
            device_map[name] = "cpu:1"

    place("", model)
    return device_map
