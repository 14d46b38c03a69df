"""What a check finds wrong outside the input: each part is looked at whatever another says."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from atp.errors import AtpError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Findings:
    """What is wrong, in the order in which it was found."""

    found: list[dict[str, Any]] = field(default_factory=list)
    """As JSON values."""

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Take note of an error that ends the context; the check goes on behind it."""
        try:
            yield
        except AtpError as error:
            self.add(part, error)

    def add(self, part: str, error: AtpError) -> None:
        """Take note of an error.

        Args:
            part: what it is about.
            error: USAGE stays what it is; whatever else keeps a run from starting is UNAVAILABLE.
        """
        usage = error.exit_code == ExitCode.USAGE
        entry = {
            "part": part,
            "exit_code": int(ExitCode.USAGE if usage else ExitCode.UNAVAILABLE),
            "message": " ".join(error.message.split()),
            "hint": " ".join(error.hint.split()),
        }
        if entry not in self.found:
            self.found.append(entry)

    def exit_code(self, *, input_at_fault: bool) -> ExitCode:
        """Return what the check ends with: a fault of the user goes before what cannot be had."""
        codes = {entry["exit_code"] for entry in self.found}
        if input_at_fault or ExitCode.USAGE in codes:
            return ExitCode.USAGE
        return ExitCode.UNAVAILABLE if codes else ExitCode.OK
