"""Shows how far a fetch is: in the live line of a terminal, else in the log now and then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from atp.runtime.log import shown

if TYPE_CHECKING:
    from collections.abc import Callable

LOG_SECONDS = 10.0

log = structlog.get_logger()


class Progress:
    """Counts the bytes that have come, of a total; `show` adds them to the bar."""

    def __init__(self, total: int, show: Callable[[int], None]) -> None:
        self.total = total
        self.done = 0
        self._show = show
        self._began = self._logged = time.monotonic()

    def arrived(self, count: int) -> None:
        """Count bytes; a negative count where some have to come again."""
        self.done += count
        self._show(count)
        now = time.monotonic()
        if now - self._logged < LOG_SECONDS or shown().live:
            return
        self._logged = now
        rate = self.done / (now - self._began)
        log.info(
            "fetch.progress",
            done_bytes=self.done,
            total_bytes=self.total,
            bytes_per_second=round(rate),
            seconds_left=round((self.total - self.done) / rate) if rate > 0 else None,
        )
