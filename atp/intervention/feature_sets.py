"""Sets of features to take out: those of a features file, and random ones that are as active.

To take out features that are active everywhere alters a model more than to take out rare ones. So a
control set has, for each selected feature, a random one near it in the order of mean activation
over the texts. Positions at which a feature is silent count as 0: how strongly times how often.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from atp.errors import SettingsError
from atp.intervention.ablate import FeatureSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from atp.intervention.features_file import FeaturesFile
    from atp.model.dictionaries.loading import Dictionary
    from atp.model.language_model import Model

NEIGHBOURS = 10  # a control feature is drawn among so many


@dataclass(frozen=True)
class Sets:
    """Features of a features file, with the SAEs they belong to."""

    selected: tuple[FeatureSet, ...]
    negative: tuple[FeatureSet, ...]


def sets_of(file: FeaturesFile, model: Model, dictionaries: Iterable[Dictionary]) -> Sets:
    """Return the features of a file with their SAEs, or raise a SettingsError for others."""
    for name, value in {"name": model.name, **model.origin}.items():
        in_file = file.model.get(name)
        if in_file is not None and in_file != value:
            msg = f"{file.path} is of the model {file.model['name']} ({name} {in_file}), "
            msg += f"--model of {model.name} ({name} {value})."
            raise SettingsError(msg, "Name the model that the features were selected on.")
    left = list(dictionaries)
    selected, negative = [], []
    for features in file.saes:
        sha256, hook_name = features.sae.get("sha256"), features.sae.get("hook_name")
        same = [
            sae for sae in left if (sae.origin.get("sha256"), sae.hook_name) == (sha256, hook_name)
        ]
        if not same:
            specs = ", ".join(sae.spec for sae in left) or "none"
            msg = f"{file.path} has features of {features.spec} on {hook_name} (sha256 {sha256}); "
            msg += f"no --sae is that one: {specs}."
            raise SettingsError(msg, "Name the SAEs that the features were selected from.")
        left.remove(same[0])
        selected.append(FeatureSet(same[0], features.selected))
        if features.negative:
            negative.append(FeatureSet(same[0], features.negative))
    if left:
        msg = f"{file.path} has no selected feature of --sae={left[0].spec}."
        raise SettingsError(msg, "Leave that SAE out, or select features of it.")
    return Sets(tuple(selected), tuple(negative))


def draw_controls(
    selected: Sequence[FeatureSet], means: Sequence[NDArray[np.float64]], count: int, seed: int
) -> list[tuple[FeatureSet, ...]]:
    """Draw control sets by the mean activations of each SAE; none if one has too few features."""
    generator = np.random.default_rng(seed)
    controls = []
    for _ in range(count):
        control = []
        for features, of_sae in zip(selected, means, strict=True):
            ids = matched(of_sae, features.ids, generator)
            if ids is None:
                return []
            control.append(FeatureSet(features.dictionary, ids))
        controls.append(tuple(control))
    return controls


def matched(
    means: NDArray[np.float64], selected: Sequence[int], generator: np.random.Generator
) -> tuple[int, ...] | None:
    """Draw a control set of one SAE: as many other features, all different.

    A selected feature that is never active is matched with another that is never active. The
    result is None where the SAE has too few features.
    """
    order = np.argsort(-means, kind="stable")
    rank = np.empty(len(means), dtype=np.int64)
    rank[order] = np.arange(len(means))
    free = np.ones(len(means), dtype=bool)
    free[list(selected)] = False
    drawn = []
    for feature in selected:
        candidates = np.flatnonzero(free & ((means > 0) == (means[feature] > 0)))
        if len(candidates) == 0:
            return None
        gaps = np.abs(rank[candidates] - rank[feature])
        nearest = candidates[np.argsort(gaps, kind="stable")[:NEIGHBOURS]]
        control = int(generator.choice(nearest))
        free[control] = False
        drawn.append(control)
    return tuple(drawn)
