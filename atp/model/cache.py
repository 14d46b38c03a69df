"""The keys and values of tokens before: made by passes that compute nothing else, then used up.

Two savings over a plain cache. A pass that only fills it ends where the last layer has its keys and
values: the rest of that layer, and the final norm, would be thrown away. And the pass that uses it
lets go of each layer's keys and values once that layer has read them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import DynamicCache

if TYPE_CHECKING:
    from torch import Tensor


class CacheFilledError(Exception):
    """Ends a pass: the last layer has its keys and values."""


class PrefixCache(DynamicCache):  # type: ignore[misc]  # a class of a library without types
    """Keys and values of every layer, in full: a sliding window is a matter of the mask.

    Args:
        n_layers: of the model.
    """

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.n_layers = n_layers
        self.filling = False
        """True: a pass only adds to it. False: a pass uses up what is there."""

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        layer_idx: int,
        *args: Any,  # noqa: ANN401  (transformers' signature)
        **kwargs: Any,  # noqa: ANN401
    ) -> tuple[Tensor, Tensor]:
        """Return the keys and values of old and new tokens, (batch, head, old + new, d_head).

        Raises:
            CacheFilledError: the cache is being filled and this was the last layer.
        """
        whole: tuple[Tensor, Tensor] = super().update(
            key_states, value_states, layer_idx, *args, **kwargs
        )
        if not self.filling:
            self.layers[layer_idx].keys = self.layers[layer_idx].values = None
        elif layer_idx == self.n_layers - 1:
            raise CacheFilledError
        return whole

    def spread(self, rows: Tensor, columns: Tensor) -> None:
        """Turn the keys and values of stems into those of a batch's rows.

        Args:
            rows: which stem each row has, (batch,).
            columns: which position of it stands in each column, (batch, shared).
        """
        for layer in self.layers:
            # Indexing moves the head to the back: (batch, shared, head, d_head).
            layer.keys = layer.keys[rows[:, None], :, columns].transpose(1, 2)
            layer.values = layer.values[rows[:, None], :, columns].transpose(1, 2)
