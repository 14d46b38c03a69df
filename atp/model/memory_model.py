"""The memory that a pass needs for each token, and how many tokens a batch may have by default.

A pass reaches its peak at one of two moments. Either the keys and values of every layer are filled
in while one layer computes, or each layer above the lowest hook point keeps what its backward pass
over the tail needs. The formulas count the tensors of a pre-norm transformer with gated MLPs, and
take the worse of a short and a long row (compared in benchmarks/gemma2_9b_simulated.py). Recurrent
layers are counted as attention over the whole text, which is a rough figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from atp.model.device_memory import free_bytes, fullest
from atp.model.hook_names import layer_of
from atp.model.kv_cache import keeps_all_keys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from atp.model.dictionaries.placement import Dictionaries
    from atp.model.language_model import Model

MAX_BATCH_TOKENS = {"cpu": 2048, "cuda": 16384}
"""By kind of device. Larger batches gain nothing on a CPU; on a GPU this is not measured."""
MIN_BATCH_TOKENS = 256
BATCH_SHARE = 0.8
"""Share of the free memory that a batch may take; the SAEs' scores need the rest."""
MARGIN = 1.02
"""The count of live bytes is larger than the formulas by at most this factor."""
STATE_COPIES = 4
"""A backward pass through a Mamba layer needs so many tensors of the size of its states."""
ROW_TOKENS = (140, 1020)
TAIL = 20
"""Default tokens at the end of a row that carry gradients."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a model; `element` is the bytes of one number."""

    layers: int
    heads: int
    kv_heads: int
    d_head: int
    d_model: int
    d_mlp: int
    element: int
    whole: bool = False
    """Whether passes cover whole texts: layers keep more than keys and values."""
    state: int = 0
    """Numbers of the state that a Mamba layer makes for every token; Mamba-2 does not."""

    @classmethod
    def of(cls, config: Any, element: int, hf_model: Any) -> Self:  # noqa: ANN401  (both untyped)
        """Read a configuration that has transformer_lens' names, and a model that may be empty."""
        states = [
            weight.numel()
            for name, weight in hf_model.named_parameters()
            if name.endswith("A_log") and weight.ndim > 1
        ]
        heads, d_model = int(getattr(config, "n_heads", None) or 1), int(config.d_model)
        return cls(
            layers=int(config.n_layers),
            heads=heads,
            kv_heads=int(getattr(config, "n_key_value_heads", None) or heads),
            d_head=int(getattr(config, "d_head", None) or d_model // heads),
            d_model=d_model,
            d_mlp=int(getattr(config, "d_mlp", None) or 4 * d_model),
            element=element,
            whole=not keeps_all_keys(hf_model),
            state=max(states, default=0),
        )

    def layers_above(self, hook_names: Iterable[str]) -> int:
        """Return how many layers a backward pass goes through."""
        return self.layers - min((layer_of(name) or 0 for name in hook_names), default=0)

    def bytes_per_token(self, hook_names: Iterable[str], tail: int | None = TAIL) -> float:
        """Return the bytes that a batch needs for each token, padding included.

        Gradients are read at the hook points, at the last `tail` tokens of a row; None: at all.
        """
        kept_layers = self.layers_above(hook_names)
        if self.whole:
            return max(self._row_bytes(kept_layers, n, n) / n for n in ROW_TOKENS)
        # A short tail may need more: then the cache is filled with most of the row at once.
        return max(
            self._row_bytes(kept_layers, length, min(end or length, length)) / length
            for length in ROW_TOKENS
            for end in (TAIL, tail)
        )

    def _row_bytes(self, kept_layers: int, length: int, tail: int) -> float:
        element, heads, d_head, d_model = self.element, self.heads, self.d_head, self.d_model
        ahead = length - tail
        # The softmax is taken in float32: a copy and a result of 4 bytes each, next to its input.
        cache = self.layers * 2 * self.kv_heads * d_head * element * ahead
        attention = ahead * heads * ahead * (8 + element) + ahead * 3 * element * (
            heads * d_head + d_model
        )
        mlp = ahead * (3 * self.d_mlp + heads * ahead + 4 * d_model) * element
        keys_and_values = 2 * heads * d_head * element * length  # all heads, as attention reads
        weights = heads * tail * length * (4 + 2 * element)
        others = tail * (element * (3 * self.d_mlp + heads * d_head) + 16 * d_model)
        states = STATE_COPIES * 4 * self.state * length  # float32
        kept = kept_layers * (keys_and_values + weights + others + states)
        return MARGIN * max(cache + max(attention, mlp), kept)


def batch_tokens(
    model: Model, dictionaries: Dictionaries, tail: int | None = TAIL, sharing: int = 1
) -> int:
    """Return how many tokens a batch may have by default, once the SAEs have their place.

    `sharing` is how many processes, each with a model, share what is free.
    """
    shape = Shape.of(model.bridge.cfg, model.dtype.itemsize, model.bridge.original_model)
    per_token = shape.bytes_per_token(dictionaries.written_points, tail)
    free = (
        free_bytes(fullest(model.devices)) / sharing
    )  # of several cards, it alone counts: that is safe
    return tokens_that_fit(free, per_token, model.device.type)


def tokens_that_fit(free: float, per_token: float, device_kind: str) -> int:
    """Return how many tokens a batch may have, by bytes of memory: a power of two, in bounds."""
    fitting = int(BATCH_SHARE * free / per_token)
    power_of_two = 1 << fitting.bit_length() - 1 if fitting > 0 else 0
    return max(MIN_BATCH_TOKENS, min(MAX_BATCH_TOKENS[device_kind], power_of_two))
