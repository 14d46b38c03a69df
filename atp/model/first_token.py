"""Which positions of the pass under way are the first of their text.

Attention rests on the first position (the BOS token, in most models) when it has nothing to read:
its residual is many times as long as others, and SAEs are trained without it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from atp.model.language_model import Model


@contextmanager
def first_positions(model: Model) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yield a function that marks the first positions of x, (batch, position, ...).

    It returns booleans, (batch, position); padding may be marked too.
    """
    positions: Tensor | None = None

    def before_pass(_: object, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        nonlocal positions
        positions = _positions(arguments, named)

    def are_first(x: Tensor) -> Tensor:
        if positions is None:
            return torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        return (positions.to(x.device) == 0).expand(x.shape[:2])

    module = model.bridge.original_model.base_model
    handle = module.register_forward_pre_hook(before_pass, with_kwargs=True)
    try:
        yield are_first
    finally:
        handle.remove()


def _positions(arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor | None:
    """Return the position ids of a pass, or count them from its mask or cache."""
    ids = named.get("input_ids", arguments[0] if arguments else named.get("inputs_embeds"))
    positions: Tensor | None = named.get("position_ids")
    if positions is not None or ids is None:
        return positions
    mask, cache = named.get("attention_mask"), named.get("past_key_values")
    state = named.get("cache_params")  # of Mamba; empty before the first pass
    if state is not None and state.has_previous_state():
        return torch.ones_like(ids)  # later ones, whichever they are
    if mask is not None and mask.ndim == 2:  # noqa: PLR2004  (rows and columns)
        counted: Tensor = (mask.cumsum(dim=1) - 1)[:, -ids.shape[1] :]
        return counted
    start = int(cache.get_seq_length()) if cache is not None else 0
    return torch.arange(start, start + ids.shape[1], device=ids.device).expand(ids.shape[:2])
