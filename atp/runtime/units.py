"""Numbers of bytes and seconds in a fitting unit, for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
MINUTE, HOUR = 60, 3600


def size(count: float | None) -> str:
    """Return a number of bytes in a fitting unit."""
    if count is None:
        return "an unknown size"
    unit = 0
    while count >= 1024 and unit < len(UNITS) - 1:  # noqa: PLR2004  (of a KiB)
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} bytes" if unit == 0 else f"{count:.3g} {UNITS[unit]}"


def duration(seconds: float) -> str:
    """Return a time in a fitting unit."""
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / MINUTE:.0f} min" if seconds < 2 * HOUR else f"{seconds / HOUR:.1f} h"


def ranges(numbers: Iterable[int]) -> str:
    """Return numbers in order, three or more in a row as a range: 0-25, 31."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(
        f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run))  # noqa: PLR2004
        for run in runs
    )
