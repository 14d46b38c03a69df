"""How far a fetch is: a bar on a terminal, a line of the log now and then elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

import structlog

from atp.runtime.log import byte_progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

EVERY_SECONDS = 10.0

log = structlog.get_logger()


class Progress:
    """Counts the bytes that have come.

    Args:
        total: how many have to come.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self._began = self._told = time.monotonic()
        self._open = ExitStack()
        self._show: Callable[[int], None] = lambda _: None

    def __enter__(self) -> Self:
        """Show the bar, where there is a terminal."""
        self._show = self._open.enter_context(byte_progress(self.total))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        self._open.close()

    def arrived(self, count: int) -> None:
        """Count bytes; fewer than none where some have to come again."""
        self.done += count
        self._show(count)
        now = time.monotonic()
        if now - self._told < EVERY_SECONDS or sys.stderr.isatty():
            return
        self._told = now
        rate = self.done / (now - self._began)
        log.info(
            "fetch.progress",
            done_bytes=self.done,
            total_bytes=self.total,
            bytes_per_second=round(rate),
            seconds_left=round((self.total - self.done) / rate) if rate > 0 else None,
        )
