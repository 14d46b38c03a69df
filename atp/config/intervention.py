"""The settings that only `atp intervene` has: each once, with its default, unit and check."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from atp.config.settings import as_text, switch, whole_number
from atp.errors import SettingsError
from atp.runtime.paths import local_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LARGEST = 1e6


@dataclass(frozen=True)
class InterventionSettings:
    """What an intervention is asked to do, beside what it reads and how it runs."""

    features: Path
    strength: float = 1.0
    """The share of a feature's contribution that is taken out; 1 is all of it."""
    spare_first: bool = False
    """Whether the first position of a text is left alone, and only the others are ablated."""
    controls: int = 20
    """Random sets of features to compare with."""
    seed: int = 0
    """Of control sets, bootstrap and sampled answers."""
    regenerate: bool = False
    max_new_tokens: int = 128
    temperature: float = 0.0
    """Of regenerated answers; 0 is greedy."""
    model_given: bool = False
    """Whether the model is the user's word; else the features file's counts."""
    saes_given: bool = False
    """The same of the SAEs."""

    def as_json(self) -> dict[str, Any]:
        """Return the settings as JSON values, for `metadata.atp`."""
        values = {**asdict(self), "features": str(self.features)}
        del values["model_given"], values["saes_given"]
        return values


@dataclass(frozen=True)
class ComparisonSettings:
    """Two files of answers to compare, and where to write what is found."""

    before: Path
    after: Path
    out: Path


def number(minimum: float) -> Callable[[str, str], float]:
    """Return a parser of decimal numbers of at least `minimum`."""

    def parse(option: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not minimum <= value <= LARGEST:
            msg = f"{option} must be a number of at least {minimum:g}, not {text!r}."
            raise SettingsError(msg)
        return value

    return parse


PARSERS: dict[str, Callable[[str, str], Any]] = {
    "features": lambda option, text: local_path(as_text(option, text)),
    "strength": number(0),
    "spare_first": switch,
    "controls": whole_number(0),
    "seed": whole_number(0),
    "regenerate": switch,
    "max_new_tokens": whole_number(1),
    "temperature": number(0),
    "compare": switch,
}
"""`compare` is no setting: it makes another command of it."""

OF_RUN = {
    "out",
    "model",
    "revision",
    "sae",
    "hook_layer",
    "sae_width",
    "max_tokens_to_check",
    "metric",
    "sequence_tokens",
    "chat_template",
    "allow_other_model",
    "model_dtype",
    "device",
    "batch_tokens",
    "limit",
    "fresh",
}
"""The options that it shares with `atp run`."""
