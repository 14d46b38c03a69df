"""A pass that skips the first layers, and resumes from what they returned in an earlier pass.

The model's own loop over its layers runs as ever, so that masks, positions and the final norm stay
its own. Before a run, `check_dictionaries` tests that layers pass on nothing but the stream.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class LayerOutput:
    """The residual stream after a layer, before any hook there: (batch, new, d_model)."""

    hidden: Tensor
    in_tuple: bool
    """Whether layers of this architecture return tuples."""

    def of_rows(self, rows: Tensor, columns: slice) -> LayerOutput:
        """Return some columns of some rows, which may repeat."""
        return LayerOutput(self.hidden[rows.to(self.hidden.device), columns], self.in_tuple)


@contextmanager
def recorded_layers(
    bridge: TransformerBridge, counts: Iterable[int]
) -> Iterator[dict[int, LayerOutput]]:
    """Yield a dictionary in which a pass saves the output of its first n layers, by n."""
    outputs: dict[int, LayerOutput] = {}

    def recorder(n: int) -> Any:  # noqa: ANN401  (a hook of torch)
        def record(_: object, __: object, output: Any) -> None:  # noqa: ANN401
            in_tuple = isinstance(output, tuple)
            outputs[n] = LayerOutput((output[0] if in_tuple else output).detach(), in_tuple)

        return record

    # Hooks of the wrapped modules: the bridge's own output has been through the hook points.
    layers = {n: bridge.blocks[n - 1].original_component for n in counts if n}
    handles = [layer.register_forward_hook(recorder(n)) for n, layer in layers.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def skipped_layers(
    bridge: TransformerBridge, count: int, output: LayerOutput | None
) -> Iterator[None]:
    """Let passes skip the first layers; the last of them returns `output`; None skips none."""
    if output is None:
        yield
        return
    saved, blocks = output, list(bridge.blocks[:count])

    def returned(hidden: Tensor) -> Any:  # noqa: ANN401
        return (hidden,) if saved.in_tuple else hidden

    def pass_through(hidden_states: Tensor, *_: object, **__: object) -> Any:  # noqa: ANN401
        return returned(hidden_states)

    def return_saved(*_: object, **__: object) -> Any:  # noqa: ANN401
        return returned(blocks[-1].hook_out(saved.hidden))  # hooks there see it as in a whole pass

    try:
        for block in blocks:
            # torch calls `self.forward`, and a block's own attributes come before its class. They
            # are set through vars(): `block.forward = ...` would reach the module that it wraps.
            vars(block)["forward"] = return_saved if block is blocks[-1] else pass_through
        yield
    finally:
        for block in blocks:
            vars(block).pop("forward", None)
