"""Attention in one kernel of torch (sdpa): no matrix of all queries and keys, so less memory.

A bridge computes attention itself, step by step, for its hooks; Hugging Face's own module chooses
the kernel. It takes over where no hook watches a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import generalized_components as components
from transformer_lens.model_bridge.generalized_components import AttentionBridge

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

KINDS = (
    components.JointQKVAttentionBridge,
    components.JointQKVPositionEmbeddingsAttentionBridge,
    components.PositionEmbeddingsAttentionBridge,
)
"""The kinds of attention of which both computations are known to agree."""


def fuse_attention(bridge: TransformerBridge) -> None:
    """Make a bridge use the kernel; ValueError for a model that it would compute wrongly."""
    hf_model = bridge.original_model
    layers = [module for module in hf_model.modules() if isinstance(module, AttentionBridge)]
    if getattr(hf_model.config.get_text_config(), "attn_logit_softcapping", None):
        msg = "the kernel does not cap attention scores"
        raise ValueError(msg)
    if odd := {type(layer).__name__ for layer in layers if type(layer) not in KINDS}:
        msg = f"its attention is of the kind {', '.join(sorted(odd))}"
        raise ValueError(msg)
    hf_model.set_attn_implementation("sdpa")
    for layer in layers:
        _fuse(layer)


def _fuse(layer: Any) -> None:  # noqa: ANN401  (a bridge module)
    step_by_step = layer.forward
    inside = [
        part
        for part in layer.modules()
        if isinstance(part, HookPoint) and part not in {layer.hook_in, layer.hook_out}
    ]

    def forward(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        if any(point.has_hooks() for point in inside):
            return step_by_step(*arguments, **named)
        return AttentionBridge.forward(layer, *arguments, **named)

    vars(layer)["forward"] = forward  # the bridge would set it on the model's module
