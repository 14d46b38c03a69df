"""Shape: what of a transformer decides the memory that a pass over it takes.

A pass needs most memory either where the keys and values of every layer are filled in, next to what
one layer is computing, or in the tail, where each layer above the lowest hook point keeps what its
backward pass needs. The formulas count the tensors of a pre-norm transformer with gated MLPs, which
need most (benchmarks/gemma2_9b_simulated.py holds them against a count of live bytes). They are
taken for the worse of a short and a long prompt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

MARGIN = 1.02
"""What the formulas may fall short of the count."""
ROW_LENGTHS = (140, 1020)
TAIL = 20
"""Tokens of the rows that the estimate is made for, and of their tails where none is given."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a model."""

    layers: int
    heads: int
    kv_heads: int
    d_head: int
    d_model: int
    d_mlp: int
    element: int
    """Bytes of one number."""

    @classmethod
    def of(cls, config: Any, element: int) -> Self:  # noqa: ANN401  (of transformer_lens, untyped)
        """Read a configuration in transformer_lens' words: a bridge's, or one mapped to them."""
        heads, d_model = int(config.n_heads), int(config.d_model)
        return cls(
            int(config.n_layers),
            heads,
            int(getattr(config, "n_key_value_heads", None) or heads),
            int(config.d_head),
            d_model,
            int(config.d_mlp or 4 * d_model),
            element,
        )

    def layers_above(self, hook_names: Iterable[str]) -> int:
        """Return how many layers a backward pass goes through."""
        return self.layers - min(map(layer_of, hook_names), default=0)

    def bytes_per_token(self, hook_names: Iterable[str], tail: int | None = TAIL) -> float:
        """Return the memory that a batch needs for each token, padding included.

        Args:
            hook_names: where gradients are read.
            tail: the most tokens at the end of a row that carry them; None for all of it.
        """
        kept_layers = self.layers_above(hook_names)
        # A short tail may need more: then most of the row is filled in at once.
        return max(
            self._row_bytes(kept_layers, length, min(end or length, length)) / length
            for length in ROW_LENGTHS
            for end in (TAIL, tail)
        )

    def _row_bytes(self, kept_layers: int, length: int, tail: int) -> float:
        """Return the peak memory of a row of this length, beyond the weights."""
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
        kept = kept_layers * (keys_and_values + weights + others)
        return MARGIN * max(cache + max(attention, mlp), kept)


def layer_of(hook_name: str) -> int:
    """Return the layer of a hook point; the lowest for one that names none."""
    found = re.search(r"\bblocks\.(\d+)\.", hook_name)
    return int(found[1]) if found else 0
