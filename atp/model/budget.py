"""How many tokens go into one pass, where the user does not say: what the free memory surely holds.

What a token takes is the Shape's to say; a batch that needs more all the same is halved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from atp.model.memory import free_bytes
from atp.model.memory_model import TAIL, Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.model.dictionaries.placement import Dictionaries
    from atp.model.loading import Model

MOST = {"cpu": 2048, "cuda": 16384}
"""On a CPU larger batches gain nothing; on a GPU that is unmeasured."""
LEAST = 256
SHARE = 0.8
"""Of the free memory; the rest is for the SAEs' scores."""


def batch_tokens(model: Model, dictionaries: Dictionaries, tail: int | None = TAIL) -> int:
    """Return the default token budget of a model with these SAEs: a power of two.

    Args:
        model: loaded.
        dictionaries: placed, so that what they take is no longer free.
        tail: the tokens at the end of a text that carry gradients; None for all of it.
    """
    each = bytes_per_token(model, dictionaries.hook_names, tail)
    return tokens_that_fit(free_bytes(model.device), each, model.device.type)


def tokens_that_fit(free: float, each: float, kind: str) -> int:
    """Return the default token budget.

    Args:
        free: bytes of memory that model and SAEs leave.
        each: bytes that a token takes.
        kind: of device, "cpu" or "cuda".
    """
    fitting = int(SHARE * free / each)
    return max(LEAST, min(MOST[kind], 1 << fitting.bit_length() - 1 if fitting > 0 else 0))


def bytes_per_token(model: Model, hook_names: Sequence[str], tail: int | None = TAIL) -> float:
    """Return the memory that a batch needs for each token, padding included; tail as above."""
    return Shape.of(model.bridge.cfg, model.dtype.itemsize).bytes_per_token(hook_names, tail)
