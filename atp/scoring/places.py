"""Checks that a model has the hook points of a dictionary, and that a pass meets them in order."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from atp.attribution.capture import PROBES
from atp.errors import SettingsError
from atp.model.hook_names import layer_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from atp.model.dictionaries.loading import Dictionary
    from atp.model.language_model import Model


@torch.no_grad()
def check_places(model: Model, dictionary: Dictionary) -> None:
    """Run a short text, and raise SettingsError unless a dictionary can read and write there."""
    check_names(model, dictionary)
    fired: list[str] = []

    def note(name: str, x: Tensor, hook: object) -> Tensor:
        del hook
        fired.append(name)
        return x

    names = dict.fromkeys((dictionary.hook_name, *dictionary.writes))
    ids = torch.tensor([PROBES[0].tokens], device=model.device)
    positions = torch.arange(ids.shape[1], device=model.device)[None]
    with model.hooks([(name, partial(note, name)) for name in names]):
        model.hidden(ids, torch.ones_like(ids), positions, None)
    for name in names:
        if fired.count(name) != 1:
            msg = f"the hook point {name} fired {fired.count(name)} times in one pass, not once."
            raise SettingsError(msg, "Choose an SAE of another hook point.")
    check_order(dictionary, fired)


def check_names(model: Model, dictionary: Dictionary) -> None:
    """Raise SettingsError for a hook point that the model lacks, or a space that it has not."""
    for name in (dictionary.hook_name, *dictionary.writes):
        model.check_hook(name)
    layers, count = [layer_of(name) for name in dictionary.writes], model.n_layers
    if len(layers) > 1 and layers != [*range(layers[0] or 0, count)]:
        msg = f"--sae={dictionary.spec} writes to layers {', '.join(map(str, layers))} of "
        msg += f"{model.name}, which has {count}: a decoder is missing."
        raise SettingsError(msg, "Choose a cross-layer transcoder that was trained on this model.")
    if dictionary.centred and model.uses_rms_norm:
        msg = f"--sae={dictionary.spec} reads centred weights (center_writing_weights), "
        msg += f"and {model.name} has RMSNorm, which does not allow them."
        raise SettingsError(msg, "Choose an SAE that was trained on this model.")


def check_order(dictionary: Dictionary, fired: Sequence[str]) -> None:
    """Raise SettingsError for a dictionary that writes before it reads.

    `fired` holds its hook points, among others, in the order in which they fire.
    """
    places = [dictionary.hook_name, *dictionary.writes]
    for lower, higher in pairwise(places):
        if fired.index(higher) < fired.index(lower):
            msg = f"--sae={dictionary.spec} reads {places[0]} and writes to "
            msg += f"{', '.join(places[1:])}: {higher} comes before {lower}."
            raise SettingsError(msg, "Mend the hook points in its cfg.json.")
