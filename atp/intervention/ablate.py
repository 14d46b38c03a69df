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

    SAEs of one hook point all read what is there as it comes.
    """
    with ExitStack() as stack:
        keep_mask = None if first_position else stack.enter_context(first_positions(model))
        removals = []
        for features in sets:
            ids = torch.tensor(features.ids, dtype=torch.long, device=model.device)
            each = features.dictionary
            removals.append(
                Removal(each.sae, each.d_sae, each.view, ids, each.hook_name, each.writes)
            )
        ablation = Ablation(removals, strength, keep_mask)
        stack.enter_context(model.hooks(ablation.hooks()))
        yield
