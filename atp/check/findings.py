"""The findings of a check: problems of the input, and errors of everything else."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from atp.errors import AtpError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atp.dataset.pairs import Problem

MAX_KEPT_PROBLEMS = 10_000  # memory must not grow with the number of problems
SHOWN = ("place", "question", "variation", "field", "line", "message", "hint")


@dataclass
class InputProblems:
    """Counts the problems of the input and keeps the first of them."""

    kept: list[Problem] = field(default_factory=list)
    count: int = 0

    def add(self, problem: Problem) -> None:
        """Count a problem, and keep it if there is room."""
        self.count += 1
        if len(self.kept) < MAX_KEPT_PROBLEMS:
            self.kept.append(problem)

    def as_json(self) -> dict[str, Any]:
        """Return the problems as JSON values."""
        return {
            "problem_count": self.count,
            "truncated": self.count > len(self.kept),
            "problems": [
                {
                    **{name: getattr(problem, name) for name in SHOWN},
                    "run": "refuses the file" if problem.refused else "gives an error",
                }
                for problem in self.kept
            ],
        }


@dataclass
class Findings:
    """Errors outside the input, as JSON values, in the order in which they were found."""

    entries: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def collect(self, part: str) -> Iterator[None]:
        """Record the error that ends the context instead of raising it."""
        try:
            yield
        except AtpError as error:
            self.add(part, error)

    def add(self, part: str, error: AtpError) -> None:
        """Record an error: USAGE keeps its exit code, every other one counts as UNAVAILABLE."""
        usage = error.exit_code == ExitCode.USAGE
        entry = {
            "part": part,
            "exit_code": int(ExitCode.USAGE if usage else ExitCode.UNAVAILABLE),
            "message": " ".join(error.message.split()),
            "hint": " ".join(error.hint.split()),
        }
        if entry not in self.entries:
            self.entries.append(entry)

    def exit_code(self, *, input_at_fault: bool) -> ExitCode:
        """Return the exit code of the check: the user's errors come before missing resources."""
        codes = {entry["exit_code"] for entry in self.entries}
        if input_at_fault or ExitCode.USAGE in codes:
            return ExitCode.USAGE
        return ExitCode.UNAVAILABLE if codes else ExitCode.OK
