"""The features file that `atp features` writes: which features of which SAEs were selected.

Read and checked without torch, so that a wrong file is told before anything is loaded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from atp.dataset.source import opened
from atp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HINT = "Write it with atp features."


@dataclass(frozen=True)
class SelectedFeatures:
    """The features of one SAE."""

    sae: dict[str, Any]
    """`metadata.atp.sae` of the results they were selected from."""
    selected: tuple[int, ...]
    """Ids, the first in rank first."""
    negative: tuple[int, ...]
    """Ids with the most negative mean scores, the most negative first."""

    @property
    def spec(self) -> str:
        """The SAE's name, as it was given to --sae."""
        return str(self.sae["spec"])


@dataclass(frozen=True)
class FeaturesFile:
    """What a features file says."""

    path: Path
    sha256: str
    model: dict[str, Any]
    """`metadata.atp.model` of the results."""
    method: Any
    """How they were scored."""
    criteria: Any
    """The thresholds of the selection."""
    saes: tuple[SelectedFeatures, ...]
    """Those of which a feature is selected."""

    @property
    def size(self) -> int:
        """The number of selected features, of all SAEs."""
        return sum(len(each.selected) for each in self.saes)

    def as_json(self) -> dict[str, Any]:
        """Return what a report says of it."""
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "method": self.method,
            "selection": self.criteria,
            "saes": [
                {
                    "sae": each.sae,
                    "selected": [str(i) for i in each.selected],
                    "negative": [str(i) for i in each.negative],
                }
                for each in self.saes
            ],
        }


def read_features_file(path: Path) -> FeaturesFile:
    """Read a features file.

    Raises:
        InputError: it cannot be read, is no features file, or selects nothing.
    """
    with opened(path) as file:
        data = file.read()
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        msg = f"{path} is not valid JSON: {error}."
        raise InputError(msg, HINT) from error
    try:
        told = content["metadata"]["atp"]
        saes = tuple(_chosen(path, entry) for entry in content["saes"])
        model = dict(told["model"], name=told["model"]["name"])
    except (KeyError, TypeError, IndexError) as error:
        msg = f"{path} is not a features file: it lacks metadata.atp.model or saes."
        raise InputError(msg, HINT) from error
    chosen = tuple(each for each in saes if each.selected)
    if not chosen:
        msg = f"{path} selects no feature."
        raise InputError(msg, "Write it anew with atp features and lower thresholds.")
    return FeaturesFile(
        path,
        hashlib.sha256(data).hexdigest(),
        model,
        told.get("method"),
        told.get("selection"),
        chosen,
    )


def _chosen(path: Path, entry: Mapping[str, Any]) -> SelectedFeatures:
    """Read what the file says of one SAE."""
    sae = entry["sae"]
    spec, width = sae["spec"], int(sae["d_sae"])
    lists = []
    for name in ("selected", "negative"):
        ids = []
        for text in entry.get(name, []) if name == "negative" else entry[name]:
            number = int(text) if str(text).isdecimal() else -1
            if not 0 <= number < width:
                msg = f"{path}: {text!r} is no feature of {spec}, which has {width}."
                raise InputError(msg, f"Features are numbered from 0 to {width - 1}.")
            ids.append(number)
        if len(set(ids)) < len(ids):
            msg = f"{path} names a feature of {spec} twice in {name!r}."
            raise InputError(msg, "Name each once.")
        lists.append(tuple(ids))
    return SelectedFeatures(dict(sae), *lists)
