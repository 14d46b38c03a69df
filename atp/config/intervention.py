"""The settings that only `atp intervene` has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from atp.config.checks import number, path, whole_number
from atp.config.option import REQUIRED, Group, option, switch
from atp.config.selection import seed_option

if TYPE_CHECKING:
    from pathlib import Path

LARGEST = 1e6
_positive = number("a number from 0 to 1,000,000", lambda value: 0 <= value <= LARGEST)


@dataclass(frozen=True)
class InterventionSettings:
    """The settings of one intervention."""

    features: Path = option(Group.INTERVENE, REQUIRED, "FILE", path)
    """File that atp features wrote: the selected features of each SAE. Default: the newest in the
    folder of the results."""
    strength: float = option(Group.INTERVENE, 1.0, "X", _positive)
    """Share of the features' contribution that is removed; 1 is all of it."""
    spare_first: bool = switch(Group.INTERVENE)
    """Do not ablate the first position of a text."""
    controls: int = option(Group.INTERVENE, 20, "N", whole_number(0))
    """Random sets of features to compare with."""
    seed: int = seed_option()
    regenerate: bool = switch(Group.INTERVENE)
    """Also write new responses, with and without the features."""
    max_new_tokens: int = option(Group.INTERVENE, 128, "N", whole_number(1))
    """Most tokens of a new response."""
    temperature: float = option(Group.INTERVENE, 0.0, "X", _positive)
    """Temperature of new responses; 0 is greedy."""
    given: frozenset[str] = frozenset()
    """The options that the user gives; the features file names model, SAEs and contrast if not."""


@dataclass(frozen=True)
class ComparisonSettings:
    """Two files of labelled responses to compare, and the folder of the report."""

    before: Path
    after: Path
    out: Path
