"""The residual stream at the last token of prompts: a pass without gradient that ends there.

Prefixes that prompts share are computed once, as in capture.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from atp.attribution.batches import Batch
from atp.attribution.capture import HookError, fill_prefix, run_tail
from atp.attribution.contrasts import Contrast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from atp.attribution.language_model import LanguageModel


class _AllReadError(Exception):
    """Ends a pass: every hook point has fired."""


@torch.no_grad()
def read_prompts(
    model: LanguageModel, prompts: Sequence[tuple[int, ...]], hook_names: Sequence[str]
) -> dict[str, Float[Tensor, " prompt *hook"]]:
    """Return each hook point's output at the last token of each prompt, in the model's dtype."""
    contrasts = [as_contrast(prompt) for prompt in prompts]
    batch = Batch.of(contrasts, model.device, whole=not model.keeps_all_keys)
    reads = batch.read_positions
    layers = max(model.layers_through(name) for name in hook_names)
    cache = fill_prefix(model, batch, model.new_cache(layers=layers))
    outputs: dict[str, Tensor] = {}

    def hook_for(name: str) -> Callable[..., Tensor]:
        def keep(x: Tensor, hook: object) -> Tensor:
            del hook
            outputs[name] = x[reads.of_output(x)].detach().to(model.device)
            if len(outputs) == len(hook_names):
                raise _AllReadError  # the layers above are not needed
            return x

        return keep

    try:
        with model.hooks([(name, hook_for(name)) for name in hook_names]):
            run_tail(model, batch, cache)
    except _AllReadError:
        return outputs
    missing = ", ".join(sorted(set(hook_names) - outputs.keys()))
    msg = f"the hook point {missing} did not fire"
    raise HookError(msg)


def as_contrast(prompt: tuple[int, ...]) -> Contrast:
    """Return a prompt in the form that batches take; its contrast tokens are never read."""
    return Contrast(prompt, len(prompt), 0, 0)
