"""What atp itself wrote into a file, read back.

The reader keeps all numbers as decimals, as a user's must come out unchanged; atp wrote floats.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any


def as_written(value: Any) -> Any:  # noqa: ANN401  (any JSON value)
    """Return what atp wrote into a file as it was then: its floats are read as decimals.

    Raises:
        ValueError: a number is beyond all floats.
    """
    if isinstance(value, dict):
        return {key: as_written(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_written(item) for item in value]
    if isinstance(value, Decimal):
        number = float(value)
        if number in {float("inf"), float("-inf")}:
            msg = f"{value} is beyond all floats"
            raise ValueError(msg)
        return number
    return value
