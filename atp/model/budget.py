"""How many tokens go into one pass, where the user does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atp.model.loading import Model

MOST = {"cpu": 2048, "cuda": 16384}
"""On a CPU larger batches gain nothing; a GPU is unmeasured."""


def batch_tokens(model: Model) -> int:
    """Return the default token budget of a model."""
    return MOST[model.device.type]
