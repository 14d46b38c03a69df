"""Key-value caches that save work and memory over a plain one.

A pass that fills a PrefixCache computes nothing else. The pass that reads it then releases each
layer's keys and values at once, unless later passes resume from that layer on with a ReadCache.
"""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache

if TYPE_CHECKING:
    from torch import Tensor


ATTENTION = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
"""The kinds of layers, as Transformers names them, that keep keys and values alone."""


def keeps_all_keys(hf_model: Any) -> bool:  # noqa: ANN401  (any Hugging Face causal model)
    """Return whether keys and values are all that a model's layers keep of earlier tokens.

    Recurrent layers (Mamba, gated linear attention) and convolutions keep a state instead. A model
    that takes no position ids (MPT) cannot be told which tokens a cache holds.
    """
    kinds = getattr(hf_model.config.get_text_config(), "layer_types", None) or ATTENTION
    arguments = signature(hf_model.base_model.forward).parameters
    takes_cache = {"past_key_values", "position_ids"} <= arguments.keys()
    stateful = hf_model._is_stateful  # noqa: SLF001  (there is no public way)
    return takes_cache and not stateful and ATTENTION.issuperset(kinds)


class CacheFilledError(Exception):
    """Ends a pass: the last layer has its keys and values."""


class PrefixCache(DynamicCache):  # type: ignore[misc]  # a class of a library without types
    """Keys and values of the layers that a pass enters, in full: the mask makes sliding windows.

    Those of layers from `kept_from` on are kept after a pass has read them; None keeps none.
    """

    def __init__(self, n_layers: int, kept_from: int | None = None) -> None:
        super().__init__()
        self.n_layers = n_layers
        self.kept_from = n_layers if kept_from is None else kept_from
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}
        self.filling = False
        """True: a pass only adds to it. False: a pass uses up its contents."""

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        layer_idx: int,
        *args: object,
        **kwargs: object,
    ) -> tuple[Tensor, Tensor]:
        """Return the keys and values of old and new tokens, (batch, head, old + new, d_head)."""
        states = (key_states, value_states)
        whole: tuple[Tensor, Tensor] = super().update(*states, layer_idx, *args, **kwargs)
        if self.filling:
            # Each layer calls this before its attention and MLP. Later layers need the output of
            # all layers but the last, whose keys and values are the last thing that is cached. So
            # its attention and MLP, and the final norm, would be computed for nothing. Only an
            # exception ends a pass in the middle of a layer on any architecture.
            if layer_idx == self.n_layers - 1:
                raise CacheFilledError
            return whole
        # The caller holds `whole` until this layer is done; the cache needs it no longer.
        self.layers[layer_idx].keys = self.layers[layer_idx].values = None
        if layer_idx >= self.kept_from:
            self.kept[layer_idx] = (whole[0].detach(), whole[1].detach())
        return whole

    def spread(self, rows: Tensor, columns: Tensor) -> None:
        """Give row i, column j the keys and values of prefix rows[i] at columns[i, j]."""
        for layer in self.layers:
            # Each layer's are on its own card.
            at = rows[:, None].to(layer.keys.device), slice(None), columns.to(layer.keys.device)
            # Indexing moves the head to the back: (batch, shared, head, d_head).
            layer.keys = layer.keys[at].transpose(1, 2)
            layer.values = layer.values[at].transpose(1, 2)

    def of_rows(self, rows: Tensor, start: int, end: int) -> ReadCache:
        """Return the kept columns start..end of some rows, which may repeat."""
        tables = {
            layer: tuple(table[:, :, start:end] for table in pair)
            for layer, pair in self.kept.items()
        }
        return ReadCache(tables, rows, end - start)


class ReadCache(DynamicCache):  # type: ignore[misc]  # as above
    """Keys and values of the first tokens of rows, (row, head, length, d_head), that stay."""

    def __init__(self, tables: dict[int, tuple[Tensor, ...]], rows: Tensor, length: int) -> None:
        super().__init__()
        self.tables, self.rows, self.length = tables, rows, length

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Return the keys and values of old and new tokens; adds nothing to the cache."""
        if not self.length:
            return key_states, value_states
        rows = self.rows.to(key_states.device)
        keys, values = (table[rows] for table in self.tables[layer_idx])
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        """Return how many tokens are cached in any layer."""
        return self.length

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:  # noqa: ARG002
        """Return how many tokens a mask covers, and the first one."""
        return self.length + query_length, 0
