"""The options by which a user chooses among a model's dictionaries without their names."""

from __future__ import annotations

import re
from typing import Literal, get_args

from atp.config.checks import valid

Site = Literal["resid", "mlp", "attn", "transcoder", "clt"]
L0Size = Literal["small", "medium", "big"]
SITES: tuple[Site, ...] = get_args(Site)
L0_SIZES: tuple[L0Size, ...] = get_args(L0Size)
CHOICES = ("hook_layer", "sae_width", "sae_l0", "sae_site")
"""Names of these options; --sae overrides them."""

ROUND = sorted(factor * 2**power for factor in (1, 3) for power in range(8, 24))
"""Numbers of features that a short name may mean: 65k is 65,536, and 24k is 24,576."""


def features_of(name: str) -> int:
    """Return the number of features that a width's name means: 16384, 16k, 1m; else ValueError.

    Gemma Scope counts thousands, 131k is 2**17; others count multiples of 1024, so that 128k is
    the same.
    """
    match = re.fullmatch(r"(\d{1,9})([km]?)", name.strip().lower())
    if match is None or not int(match[1]):
        raise ValueError(name)
    number, power = int(match[1]), "km".find(match[2]) + 1 if match[2] else 0
    thousands = (features for features in ROUND if features // 1000**power == number)
    return next(thousands, number * 1024**power) if power else number


def width_name(features: int) -> str:
    """Return the short name of a number of features, which `features_of` reads."""
    for unit, letter in ((1_000_000, "m"), (1_000, "k"), (1024, "k")):
        name = f"{features // unit}{letter}"
        if features >= unit and features_of(name) == features:
            return name
    return str(features)


sae_width = valid("a number of features such as 16384, 16k or 1m", features_of)
