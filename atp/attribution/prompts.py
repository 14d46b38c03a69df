"""What hook points hold at the last token of prompts: a pass without gradient, not beyond them.

What prompts share at their start is computed once, as in capture.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from atp.attribution.batches import Batch
from atp.attribution.capture import HookError, read_ahead
from atp.attribution.contrasts import Contrast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from atp.attribution.capture import LanguageModel


class _AllReadError(Exception):
    """Ends a pass: every hook point has fired."""


class _Reader:
    """Hooks that keep what is in the last column."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = set(names)
        self.found: dict[str, Tensor] = {}

    def at(self, name: str, x: Float[Tensor, "prompt new *hook"]) -> Tensor:
        """Keep what a hook point holds; end the pass at the last one."""
        self.found[name] = x[:, -1].detach()
        if self.names == self.found.keys():
            raise _AllReadError
        return x


@torch.no_grad()
def read_prompts(
    model: LanguageModel, prompts: Sequence[tuple[int, ...]], hook_names: Sequence[str]
) -> dict[str, Float[Tensor, " prompt *hook"]]:
    """Return what each hook point holds at the last token of each prompt, in the model's dtype.

    Args:
        model: a language model.
        prompts: token ids.
        hook_names: each once.

    Raises:
        HookError: a hook point did not fire.
    """
    batch = Batch.of([as_contrast(prompt) for prompt in prompts], model.device)
    layers = max(model.layers_through(name) for name in hook_names)
    cache = read_ahead(model, batch, model.new_cache(layers=layers))
    reader = _Reader(hook_names)

    def hook_for(name: str) -> Callable[..., Tensor]:
        return lambda x, hook: reader.at(name, x)  # noqa: ARG005  (the bridge's signature)

    try:
        with model.hooks([(name, hook_for(name)) for name in hook_names]):
            model.hidden(batch.ids[:, -1:], batch.mask, batch.positions[:, -1:], cache)
    except _AllReadError:
        return reader.found
    missing = ", ".join(sorted(reader.names - reader.found.keys()))
    msg = f"the hook point {missing} did not fire"
    raise HookError(msg)


def as_contrast(prompt: tuple[int, ...]) -> Contrast:
    """Return a prompt as a contrast, so that it can be put into batches; its tokens are none."""
    return Contrast(prompt, len(prompt), 0, 0)
