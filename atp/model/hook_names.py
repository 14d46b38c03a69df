"""Hook points by name: blocks.LAYER.POINT; layers count from 0.

The files of a dictionary may name a place in two ways: by transformer_lens' name of a hook point,
and by the module of the plain Hugging Face model, which leaves no room for conventions.
"""

from __future__ import annotations

import re

ENDS_OF_LAYERS = {"hook_resid_post", "hook_out"}
"""Names of the last hook point of a layer, which has run when it fires."""
IN_THE_STREAM = re.compile(r"blocks\.(\d+)\.hook_(resid_pre|resid_mid|resid_post|attn_out|mlp_out)")
"""Hook points whose output is, or is added to, the residual stream."""
PLACES = {  # (module of a layer, its input or output): hook point
    ("", "input"): "hook_resid_pre",
    ("", "output"): "hook_resid_post",
    ("self_attn.o_proj", "input"): "attn.hook_z",
    ("mlp", "input"): "mlp.hook_in",
    ("mlp", "output"): "mlp.hook_out",
    # Of Gemma 2 and 3, whose norms stand before and after the MLP.
    ("pre_feedforward_layernorm", "output"): "mlp.hook_in",
    ("post_feedforward_layernorm", "output"): "hook_mlp_out",
}
MODULE = re.compile(
    r"(?:(?:model|language_model|transformer|gpt_neox)\.)*(?:layers|h)\.(\d+)"
    r"(?:\.(?!input$|output$)(.+?))?(?:\.(input|output))?"
)


def hook_point_of(module: str) -> str | None:
    """Return the hook point of a place in the plain model; None for one that is not known.

    A place is a module of a layer and its input or output, by default the output:
    model.layers.3.mlp.output.
    """
    match = MODULE.fullmatch(module)
    if match is None:
        return None
    point = PLACES.get((match[2] or "", match[3] or "output"))
    return None if point is None else f"blocks.{match[1]}.{point}"


def layer_of(hook_name: str) -> int | None:
    """Return the layer that a hook point belongs to; None where its name has none."""
    match = re.search(r"\bblocks\.(\d+)\.", hook_name)
    return int(match[1]) if match else None


def layers_before(hook_name: str) -> int:
    """Return how many layers have run when a hook point fires; 0 where its name has no layer."""
    layer = layer_of(hook_name)
    if layer is None:
        return 0
    return layer + (hook_name.partition(f"blocks.{layer}.")[2] in ENDS_OF_LAYERS)
