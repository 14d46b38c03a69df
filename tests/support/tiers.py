"""Which cases of a test are in the first tier, `make test`, and which wait for `make test-all`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def first_tier(kept: Iterable[Any], values: Iterable[Any]) -> list[Any]:
    """Return parameters for a test: all values, those that are not kept with the marker `slow`."""
    kept, values = list(kept), list(values)
    assert all(each in values for each in kept)
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)),
            marks=() if value in kept else pytest.mark.slow,
        )
        for value in values
    ]
