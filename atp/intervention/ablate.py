"""A model without some features of its SAEs, for as long as a context lasts."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from atp.attribution.ablation import Ablation, Removal
from atp.model.first_token import first_positions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from atp.model.dictionaries.loading import Dictionary
    from atp.model.language_model import Model


@dataclass(frozen=True)
class FeatureSet:
    """Features of one SAE."""

    dictionary: Dictionary
    ids: tuple[int, ...]


@contextmanager
def ablated(
    model: Model, sets: Sequence[FeatureSet], strength: float, *, first_position: bool
) -> Iterator[None]:
    """Have the model run without features of several SAEs, which are on its device.

    SAEs of one hook point all read the residual stream as it comes.
    """
    with ExitStack() as stack:
        keep_mask = None if first_position else stack.enter_context(first_positions(model))
        by_hook: dict[str, list[Removal]] = {}
        for features in sets:
            ids = torch.tensor(features.ids, dtype=torch.long, device=model.device)
            dictionary = features.dictionary
            removal = Removal(dictionary.sae, dictionary.d_sae, dictionary.view, ids)
            by_hook.setdefault(dictionary.hook_name, []).append(removal)
        hooks = [
            (name, Ablation(removals, strength, keep_mask)) for name, removals in by_hook.items()
        ]
        stack.enter_context(model.hooks(hooks))
        yield
