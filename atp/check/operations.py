"""What a run computes, in floating-point operations: two for each weight and token that it meets.

The weights are frozen, so that a backward pass costs what its forward pass does. Counted are
products with weights: attention over what came before, norms and copies are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.check.answers import Work
    from atp.model.dictionaries.outline import SaeOutline
    from atp.model.outline import Outline


def floating_point_operations(outline: Outline, saes: Sequence[SaeOutline], work: Work) -> int:
    """Return what the passes and the SAEs compute.

    Args:
        outline: of the model.
        saes: all that are scored.
        work: counted.
    """
    hooks = [sae.hook_name or "" for sae in saes]
    tokens = work.computed_tokens + _share(outline, hooks) * work.gradient_tokens
    tokens += work.base_prompts.computed_tokens  # at most: a pass ends at the highest hook point
    weights = outline.body_parameters * tokens
    # Log-probabilities: all logits, once more on the way back, and the way back.
    weights += 3 * outline.unembedding_parameters * work.answer_tokens
    for sae in saes:
        half = (sae.weights or 0) // 2  # encoder or decoder
        # Encoder, decoder, and the decoder again on the way back.
        weights += 3 * half * work.places + half * work.base_prompts.prompts
        weights += _again(outline, sae, work, half)
    return round(2 * weights)


def _again(outline: Outline, sae: SaeOutline, work: Work, half: int) -> float:
    """Return the weights that are met where pairs are gone through again, for one SAE."""
    method = work.method
    steps = method.ig_steps if method.name == "ig" else 0
    # At most: a listed feature that is not active is not removed.
    removed = min(work.top_k, sae.d_sae or work.top_k) + 1 if method.exact else 0
    forward, back = steps + bool(steps) + removed, steps
    passes = (forward + back) * _share(outline, [sae.hook_name or ""]) * work.variant_tokens
    logits = (forward + 2 * back) * work.answer_tokens
    decoded = (removed + bool(steps)) * work.places
    return (
        outline.body_parameters * passes + outline.unembedding_parameters * logits + half * decoded
    )


def _share(outline: Outline, hook_names: Sequence[str]) -> float:
    """Return the share of the layers from the lowest hook point on."""
    return outline.shape.layers_above(hook_names) / outline.shape.layers
