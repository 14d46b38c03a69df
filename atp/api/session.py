"""How the library behaves inside a user's program: its log, its progress bar."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import structlog

from atp.runtime.live import LiveLine, phase

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

T = TypeVar("T")


@contextmanager
def library_log() -> Iterator[None]:
    """Send atp's events to `logging`, as "atp", unless the program has configured structlog.

    Python shows warnings alone by default: a batch that did not fit into memory, say.
    """
    if structlog.is_configured():
        yield
        return
    structlog.configure(
        processors=[structlog.processors.KeyValueRenderer(key_order=["event"])],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: logging.getLogger("atp"),
    )
    try:
        yield
    finally:
        structlog.reset_defaults()


def logged(items: Iterator[T]) -> Iterator[T]:
    """Yield items; the log is the library's while each is made, and the program's in between."""
    while True:
        with library_log():
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


def bar(total: int, *, shown: bool) -> AbstractContextManager[LiveLine]:
    """Return a context that shows a bar of pairs on a terminal."""
    return phase("scoring", total, unit="pairs", shown=shown and sys.stderr.isatty())
