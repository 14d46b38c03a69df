"""The features file that `atp features` writes: the selected features of each SAE.

It is read without torch, so that a wrong file is refused before anything is loaded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from atp.dataset.source import opened
from atp.errors import InputError
from atp.intervention.report import joint_in_words

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HINT = "Write it with atp features."


@dataclass(frozen=True)
class SelectedFeatures:
    """The features of one SAE."""

    sae: dict[str, Any]  # `metadata.atp.sae` of the results they were selected from
    selected: tuple[int, ...]  # ids, the greatest mean score first
    negative: tuple[int, ...]  # ids, the most negative mean score first
    joint: dict[str, Any] | None = None
    """The effect of removing the selected ones together at the scored positions, if measured."""

    @property
    def spec(self) -> str:
        """The SAE's name, as given to --sae."""
        return str(self.sae["spec"])


@dataclass(frozen=True)
class FeaturesFile:
    """The content of a features file."""

    path: Path
    sha256: str
    model: dict[str, Any]  # `metadata.atp.model` of the results
    metadata: dict[str, Any]  # its `metadata.atp`: how the results were scored, the thresholds
    saes: tuple[SelectedFeatures, ...]  # those with a selected feature

    def as_json(self) -> dict[str, Any]:
        """Return what a report says of it."""
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "method": self.metadata.get("method"),
            "selection": self.metadata.get("selection"),
            "saes": [
                {
                    "sae": features.sae,
                    "selected": list(map(str, features.selected)),
                    "negative": list(map(str, features.negative)),
                    "joint": features.joint,
                }
                for features in self.saes
            ],
        }


def read_features_file(path: Path) -> FeaturesFile:
    """Read a features file, or raise an InputError; a file that selects nothing is refused, too."""
    with opened(path) as file:
        data = file.read()
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        msg = f"{path} is not valid JSON: {error}."
        raise InputError(msg, HINT) from error
    try:
        metadata = content["metadata"]["atp"]
        saes = [_features_of_sae(path, entry) for entry in content["saes"]]
        model = dict(metadata["model"], name=metadata["model"]["name"])
    except (KeyError, TypeError, IndexError, ValueError) as error:
        msg = f"{path} is not a features file: it lacks metadata.atp.model or saes."
        raise InputError(msg, HINT) from error
    with_selection = tuple(features for features in saes if features.selected)
    if not with_selection:
        msg = f"{path} selects no feature."
        raise InputError(msg, "Write it again with atp features and lower thresholds.")
    sha256 = hashlib.sha256(data).hexdigest()
    return FeaturesFile(path, sha256, model, metadata, with_selection)


def _features_of_sae(path: Path, entry: Mapping[str, Any]) -> SelectedFeatures:
    sae = entry["sae"]
    spec, width = sae["spec"], int(sae["d_sae"])
    lists = []
    for name, texts in (("selected", entry["selected"]), ("negative", entry.get("negative", []))):
        ids = []
        for text in texts:
            number = int(text) if str(text).isdecimal() else -1
            if not 0 <= number < width:
                msg = f"{path}: {text!r} is no feature of {spec}, which has {width}."
                raise InputError(msg, f"Features are numbered from 0 to {width - 1}.")
            ids.append(number)
        if len(set(ids)) < len(ids):
            msg = f"{path} names a feature of {spec} twice in {name!r}."
            raise InputError(msg, "Name each once.")
        lists.append(tuple(ids))
    joint = entry.get("joint")
    if joint is not None:
        joint_in_words(joint)  # else the report could not give it
    selected, negative = lists
    return SelectedFeatures(dict(sae), selected, negative, joint)
