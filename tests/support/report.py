"""What tests of targets have measured, for a table at the end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """How thoroughly to measure, and what was found."""

    full: bool
    """In the full counts, not in the few of every run of the tests."""
    lines: list[tuple[str, str, str]]
    """What, target, found."""

    def figure(self, what: str, target: str, found: str) -> None:
        """Add a line."""
        self.lines.append((what, target, found))
