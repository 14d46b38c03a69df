"""Which positions of a pass are the first of their text.

The first position (the BOS token, in most models) is where attention rests when it has nothing to
read: its residual is many times as long as others, and SAEs are trained without it. Whoever alters
a residual stream needs to know where it is, whichever pass is under way: a whole text, the parts of
`capture`, or the steps of a generation.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from atp.model.loading import Model


class FirstPositions:
    """Knows of the pass under way which of its columns are first."""

    def __init__(self) -> None:
        self._positions: Tensor | None = None

    def note(self, module: object, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """Take note of a pass that begins: a pre-hook of the model without its unembedding."""
        del module
        ids = named.get("input_ids", arguments[0] if arguments else named.get("inputs_embeds"))
        positions, mask = named.get("position_ids"), named.get("attention_mask")
        cache = named.get("past_key_values")
        before = int(cache.get_seq_length()) if cache is not None else 0
        if positions is None and ids is not None:
            steps = torch.arange(before, before + ids.shape[1], device=ids.device)
            positions = steps.expand(ids.shape[:2])
            if mask is not None and mask.ndim == 2:  # noqa: PLR2004  (rows and columns)
                positions = (mask.cumsum(dim=1) - 1)[:, -ids.shape[1] :]
        self._positions = positions

    def of(self, x: Tensor) -> Tensor:
        """Return which positions of x, (batch, position, ...), are first, (batch, position).

        Padding may be called first, too: nobody reads it.
        """
        if self._positions is None:
            return torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        return (self._positions.to(x.device) == 0).expand(x.shape[:2])


@contextmanager
def first_positions(model: Model) -> Iterator[FirstPositions]:
    """Have a FirstPositions that follows the model's passes while the context lasts."""
    found = FirstPositions()
    module = model.bridge.original_model.base_model
    handle = module.register_forward_pre_hook(found.note, with_kwargs=True)
    try:
        yield found
    finally:
        handle.remove()
