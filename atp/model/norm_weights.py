"""The weights of the norms that read the residual stream after a hook point.

A norm divides x by its length and multiplies each dimension by a weight. Models with dimensions of
huge values (Gemma 3) give these small weights, so the layers above hardly see them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from atp.model.hook_names import IN_THE_STREAM

if TYPE_CHECKING:
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge


def next_norm_weights(bridge: TransformerBridge, hook_name: str) -> Tensor | None:
    """Return a weight for each dimension of the stream, (d_model,), float32, of length 1.

    Its square is the mean of the squared weights of the norms of the next layer, that before the
    attention and that before the MLP, each of length 1; above the last layer, of the final norm.
    None where the hook point does not read from or write to the stream, or nothing there is a norm.
    """
    match = IN_THE_STREAM.fullmatch(hook_name)
    if match is None:
        return None
    blocks = bridge.blocks
    layer = int(match[1]) + (match[2] in {"resid_post", "mlp_out"})
    if layer < len(blocks):
        first = ("ln2",) if match[2] in {"resid_mid", "attn_out"} else ("ln1", "ln2")
        norms = [getattr(blocks[layer], name, None) for name in first]
        if str(getattr(getattr(blocks[layer], "ln1", None), "name", "")).startswith("post_"):
            return None  # OLMo 2: norms read what is added to the stream, and never the stream
    else:
        norms = [getattr(bridge, "ln_final", None)]
    squares = [_weights(norm.original_component) for norm in norms if norm is not None]
    if not squares:
        return None
    return torch.stack([(each / each.norm()).square() for each in squares]).mean(dim=0).sqrt()


@torch.no_grad()
def _weights(norm: Any) -> Tensor:  # noqa: ANN401  (a module of any architecture)
    """Return a norm's weights, whatever it calls them, and whether or not it adds 1 to them."""
    like = next(norm.parameters())
    ones = torch.ones(1, 1, like.shape[-1], dtype=like.dtype, device=like.device)
    ones[..., 1::2] = -1  # its mean is 0 and its mean square 1: a norm changes it by its weights
    weights: Tensor = (norm(ones) - norm(torch.zeros_like(ones))) / ones
    return weights.flatten().abs().float()
