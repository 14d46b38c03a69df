"""A model without some features of its SAEs, for as long as a context lasts."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from atp.attribution.ablation import Ablation, Removal
from atp.model.first_token import first_positions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from atp.model.dictionaries.loading import Dictionary
    from atp.model.language_model import Model


@dataclass(frozen=True)
class FeatureSet:
    """Features of one SAE."""

    dictionary: Dictionary
    ids: tuple[int, ...]


@contextmanager
def ablate(
    model: Model,
    dictionary: Dictionary,
    features: Iterable[int | str],
    strength: float = 1.0,
    *,
    first_position: bool = True,
) -> Iterator[None]:
    """Have the model run without some features: every pass, and every generation.

    At each position, x -> x - strength * sum of (activation * decoder direction) of the features;
    without `first_position`, the first position of a text (the BOS token) is spared.
    For several SAEs, nest it: on one hook point, an inner one reads what an outer one has left.
    The SAE is moved to the model's device. A SettingsError says that it has no such feature, or
    that the model lacks its hook point.
    """
    selected = FeatureSet(dictionary, tuple(dictionary.feature_ids(features)))
    model.check_hook(dictionary.hook_name)
    dictionary.sae.to(model.device)
    with ablated(model, [selected], strength, first_position=first_position):
        yield


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
