"""How the library behaves inside a user's program: its log, its progress bar."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


@contextmanager
def bar(total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar of pairs on a terminal; yield a function that takes the pairs just done."""
    # Imported here: a program that shows no bar need not load it.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import MofNCompleteColumn, Progress  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    hidden = not (shown and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("pairs", total=total)
        yield lambda count: progress.advance(task, count)
