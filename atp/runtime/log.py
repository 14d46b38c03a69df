"""Logs on stderr: JSON lines for machines, readable lines and a progress bar for a terminal.

What is logged is in events.py. Prompts and answers never are, and no secret passes.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


TOKEN = re.compile(r"hf_[A-Za-z0-9]{8,}")
"""How the hub's tokens look."""
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def without_secrets(text: str) -> str:
    """Return a text without the hub's tokens, which a library's message may hold."""
    secrets = [os.environ.get(name, "") for name in TOKEN_VARIABLES]
    if path := os.environ.get("HF_TOKEN_PATH"):
        secrets.append(_content(path))
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return TOKEN.sub("***", text)


@cache
def _content(path: str) -> str:
    """Return what a token file holds; nothing where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


class Stderr:
    """Standard error, as far as logs go: one that cannot be written (a full disk) ends no run.

    Looked up at each line: while a bar is drawn, rich stands in for it.
    """

    def write(self, text: str) -> int:
        """Write a text, or leave it."""
        try:
            descriptor = None if sys.stderr.isatty() else sys.stderr.fileno()
        except (OSError, ValueError):  # of a test, say
            descriptor = None
        with suppress(OSError):
            if descriptor is None:
                sys.stderr.write(text)
            else:  # what a buffer had kept would be tried again at the exit, and spoil its code
                os.write(descriptor, text.encode(errors="backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Do nothing: nothing is kept back."""


def _renderer(*, on_terminal: bool) -> structlog.typing.Processor:
    """Return what makes a line of an event."""
    render: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer()
    )

    def clean(
        logger: structlog.typing.WrappedLogger, method: str, event: structlog.typing.EventDict
    ) -> str:
        return without_secrets(str(render(logger, method, event)))

    return clean


def configure(run_id: str) -> None:
    """Send structlog and the libraries' warnings to stderr, with `run_id` on every line."""
    stream = cast("TextIO", Stderr())
    renderer = _renderer(on_terminal=sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(stream),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(run_id=run_id)
    # What libraries log goes through the same renderer, warnings and above only.
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processor=renderer)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


@contextmanager
def progress(total: int, done: int) -> Iterator[Callable[[int], None]]:
    """Show a bar of pairs on a terminal; elsewhere show nothing (the log lines tell).

    Yields a function that takes the number of pairs just done.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415  (a terminal only; keeps start-up light)
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("pairs"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("pairs", total=total, completed=done)
        yield lambda count: bar.advance(task, count)


@contextmanager
def byte_progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar of bytes on a terminal; elsewhere, or where none are to come, show nothing.

    Yields a function that takes the number of bytes that have just come.
    """
    if not sys.stderr.isatty() or total == 0:
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415  (a terminal only; keeps start-up light)
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("bytes", total=total)
        yield lambda count: bar.advance(task, count)
