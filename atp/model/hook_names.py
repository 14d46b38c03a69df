"""Which layer a hook point belongs to, by its name: blocks.LAYER.POINT; layers count from 0."""

from __future__ import annotations

import re

ENDS_OF_LAYERS = {"hook_resid_post", "hook_out"}
"""Names of the last hook point of a layer, which has run when it fires."""


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
