"""The live line: on a terminal, one line that says what a command is doing.

It disappears when its phase ends; the log's lines scroll above it. Elsewhere it costs nothing.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO, cast

from atp.runtime import log
from atp.runtime.units import duration, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console, ConsoleOptions, RenderResult

BAR_WIDTH, LEAST_BAR_WIDTH = 24, 8
STDERR, SHOW_CURSOR = 2, b"\x1b[?25h"


@dataclass
class LiveLine:
    """A phase of a command: how much of it is done, and a note."""

    phase: str
    total: int | None = None  # None where it is unknown
    done: int = 0
    unit: str = ""  # of the total: "pairs", or "bytes"
    note: str = ""
    state: Callable[[], str] = str
    """Called for a text that changes with time, as the state of the workers does."""
    began: float = field(default_factory=time.monotonic)
    _done_before: int = field(init=False)
    _advanced: float = field(init=False)  # when `done` changed last

    def __post_init__(self) -> None:
        self._done_before, self._advanced = self.done, self.began

    def advance(self, count: int) -> None:
        """Count what has just been done."""
        self.done += count
        self._advanced = time.monotonic()

    def parts(self) -> list[str]:
        """Return the texts of the line, the most important first."""
        now = time.monotonic()
        if not self.total:
            parts = [self.phase, duration(now - self.began), self.state(), self.note]
            return list(filter(None, parts))
        in_bytes = self.unit == "bytes"
        counts = f"{self.done:,}/{self.total:,} {self.unit}"
        parts = [self.phase, f"{size(self.done)} of {size(self.total)}" if in_bytes else counts]
        new, elapsed = self.done - self._done_before, self._advanced - self.began
        if new > 0 and elapsed >= 1:  # pairs that are skipped at the start are no measure
            rate = new / elapsed
            left = max(0, (self.total - self.done) / rate - (now - self._advanced))
            per_second = size(rate) if in_bytes else f"{rate:.3g} {self.unit}"
            parts += [f"{per_second}/s", f"{duration(left)} left"]
        return list(filter(None, [*parts, self.state(), self.note]))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw as much as fits one line of the terminal."""
        from rich.progress_bar import ProgressBar  # noqa: PLC0415  (for a terminal only)
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        width, fitting = options.max_width - 1, 0
        parts = self.parts()
        while fitting < len(parts) and len("  ".join(parts[: fitting + 1])) <= width:
            fitting += 1
        texts = parts[: max(fitting, 1)]
        free = width - len("  ".join(texts)) - 2
        grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
        cells: list[Text | ProgressBar] = [Text(text, no_wrap=True) for text in texts]
        cells[0] = Text(texts[0][:width], style="bold", no_wrap=True)
        if self.total and free >= LEAST_BAR_WIDTH:
            bar = ProgressBar(self.total, min(self.done, self.total), min(free, BAR_WIDTH))
            cells.insert(1, bar)
        grid.add_row(*cells)
        yield grid


class Terminal:
    """Standard error for rich: a reader who leaves, or a full disk, ends no run."""

    def __init__(self) -> None:
        self._stream = sys.stderr

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be written."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> object:
        """Be the stream in everything else."""
        return getattr(self._stream, name)


_current = LiveLine("")


@contextmanager
def phase(  # noqa: PLR0913  (keywords with defaults)
    text: str,
    total: int | None = None,
    done: int = 0,
    unit: str = "",
    *,
    still: bool = False,
    shown: bool | None = None,
) -> Iterator[LiveLine]:
    """Show a phase in the live line while the context lasts.

    `still` draws it once: drawing disturbs a procedure that is timed. `shown` says whether there is
    a live line; by default there is one as the log is configured.
    """
    global _current  # noqa: PLW0603  (a terminal has one live line)
    line, before = LiveLine(text, total, done, unit), _current
    if (
        not (log.shown().live if shown is None else shown) or before.phase
    ):  # a phase within another one is not shown
        yield line
        return
    # Imported for a terminal only: start-up stays light.
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    _current = line
    try:
        console = Console(file=cast("TextIO", Terminal()))
        with Live(
            line, console=console, transient=True, auto_refresh=not still, refresh_per_second=8
        ):
            yield line
    finally:
        _current = before


def restore_terminal() -> None:
    """Show the cursor again, which the live line hides: for a process that exits at once."""
    if _current.phase:
        with suppress(OSError):
            os.write(STDERR, SHOW_CURSOR)
