"""How many tokens go into one pass, where the user does not say: what the free memory surely holds.

A pass needs most memory either where the keys and values of every layer are filled in, next to what
one layer is computing, or in the tail, where each layer above the lowest hook point keeps what its
backward pass needs. The formulas count the tensors of a pre-norm transformer with gated MLPs, which
need most (benchmarks/gemma2_9b_simulated.py holds them against a count of live bytes). They are
taken for the worse of a short and a long prompt; a batch that needs more all the same is halved.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from atp.model.memory import free_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.model.loading import Model
    from atp.model.placement import Dictionaries

MOST = {"cpu": 2048, "cuda": 16384}
"""On a CPU larger batches gain nothing; on a GPU that is unmeasured."""
LEAST = 256
MARGIN = 1.02
"""What the formulas may fall short of the count."""
SHARE = 0.8
"""Of the free memory; the rest is for the SAEs' scores."""
ROW_LENGTHS = (140, 1020)
TAIL = 20
"""Tokens of the rows that the estimate is made for, and of their tails."""


def batch_tokens(model: Model, dictionaries: Dictionaries) -> int:
    """Return the default token budget of a model with these SAEs: a power of two.

    Args:
        model: loaded.
        dictionaries: placed, so that what they take is no longer free.
    """
    most = MOST[model.device.type]
    fitting = int(
        SHARE * free_bytes(model.device) / bytes_per_token(model, dictionaries.hook_names)
    )
    return max(LEAST, min(most, 1 << fitting.bit_length() - 1 if fitting else 0))


def bytes_per_token(model: Model, hook_names: Sequence[str]) -> float:
    """Return the memory that a batch needs for each token, padding included."""
    return max(_row_bytes(model, hook_names, length) / length for length in ROW_LENGTHS)


def _row_bytes(model: Model, hook_names: Sequence[str], length: int) -> float:
    """Return the peak memory of a row of this length, beyond the weights."""
    config, element = model.bridge.cfg, model.dtype.itemsize
    layers, heads, d_head = int(config.n_layers), int(config.n_heads), int(config.d_head)
    d_model = int(config.d_model)
    d_mlp = int(config.d_mlp or 4 * d_model)
    kv_heads = int(getattr(config, "n_key_value_heads", None) or heads)
    lowest = min(map(_layer, hook_names), default=0)
    ahead = length - TAIL
    # The softmax is taken in float32: a copy and a result of 4 bytes each, next to its input.
    cache = layers * 2 * kv_heads * d_head * element * ahead
    attention = ahead * heads * ahead * (8 + element) + ahead * 3 * element * (
        heads * d_head + d_model
    )
    mlp = ahead * (3 * d_mlp + heads * ahead + 4 * d_model) * element
    keys_and_values = 2 * heads * d_head * element * length  # of all heads, as attention reads them
    weights = heads * TAIL * length * (4 + 2 * element)
    others = TAIL * (element * (3 * d_mlp + heads * d_head) + 16 * d_model)
    kept = (layers - lowest) * (keys_and_values + weights + others)
    return MARGIN * max(cache + max(attention, mlp), kept)


def _layer(hook_name: str) -> int:
    """Return the layer of a hook point; the lowest for one that names none."""
    found = re.search(r"\bblocks\.(\d+)\.", hook_name)
    return int(found[1]) if found else 0
