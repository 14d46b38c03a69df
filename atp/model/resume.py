"""A pass that begins after some layers, on what came out of them in an earlier pass.

The model's own loop over its layers runs as ever: the first layers hand on what they are given, and
the last of them what they once made. So masks, positions and the final norm stay the model's own,
whatever its architecture; that layers hand on nothing else is tried once (scoring/scorer.py).
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

ENDS = re.compile(r"(?:hook_resid_post|hook_out)")
"""What the last hook point of a layer is called."""


def layers_before(hook_name: str) -> int:
    """Return how many layers are done when a hook point fires, its own one if it ends it.

    0 where the name tells no layer: then a pass has to begin at the embedding.
    """
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", hook_name)
    if not found:
        return 0
    return int(found[1]) + bool(ENDS.fullmatch(found[2]))


def layers_through(hook_name: str) -> int | None:
    """Return how many layers a pass must begin until a hook point fires.

    None where the name tells no layer.
    """
    found = re.fullmatch(r"blocks\.(\d+)\..+", hook_name)
    return int(found[1]) + 1 if found else None


@dataclass(frozen=True)
class LayerOutput:
    """What came out of a layer, before any hook there."""

    hidden: Tensor
    """(batch, new, d_model)"""
    in_tuple: bool
    """Whether this architecture's layers give tuples."""

    def of_row(self, row: int, columns: int) -> LayerOutput:
        """Return the last columns of one row."""
        return LayerOutput(self.hidden[row : row + 1, -columns:], self.in_tuple)


@contextmanager
def reading(bridge: TransformerBridge, layers: Iterable[int]) -> Iterator[dict[int, LayerOutput]]:
    """Have a pass leave what comes out of the first n layers; by n."""
    found: dict[int, LayerOutput] = {}

    def reader(n: int) -> Any:  # noqa: ANN401  (a hook of torch)
        def read(module: object, inputs: object, output: Any) -> None:  # noqa: ANN401
            del module, inputs
            in_tuple = isinstance(output, tuple)
            found[n] = LayerOutput((output[0] if in_tuple else output).detach(), in_tuple)

        return read

    handles = [
        bridge.blocks[n - 1].original_component.register_forward_hook(reader(n))
        for n in layers
        if n
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def left_out(
    bridge: TransformerBridge, layers: int, entering: LayerOutput | None
) -> Iterator[None]:
    """Have passes begin after the first layers.

    Args:
        bridge: its blocks are changed for as long as the context lasts.
        layers: how many are left out; none for 0.
        entering: what comes out of the last of them; None for 0.
    """
    blocks = list(bridge.blocks[:layers]) if entering is not None else []

    def hand_on(hidden_states: Tensor, *args: object, **kwargs: object) -> Any:  # noqa: ANN401
        del args, kwargs
        return as_given(hidden_states)

    def give(*args: object, **kwargs: object) -> Any:  # noqa: ANN401
        del args, kwargs
        return as_given(blocks[-1].hook_out(entering and entering.hidden))

    def as_given(hidden: Tensor) -> Any:  # noqa: ANN401
        return (hidden,) if entering and entering.in_tuple else hidden

    try:
        for number, block in enumerate(blocks, start=1):
            # Not by assignment: a bridge hands that on to the module it wraps.
            vars(block)["forward"] = give if number == layers else hand_on
        yield
    finally:
        for block in blocks:
            vars(block).pop("forward", None)
