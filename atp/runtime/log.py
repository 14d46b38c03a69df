"""The log on stderr: JSON lines for machines, readable lines and a progress bar for a terminal.

docs/logs.md lists the events. Prompts and responses are never logged, and secrets are blotted out.
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
    from contextlib import AbstractContextManager

TOKEN = re.compile(r"hf_[A-Za-z0-9]{8,}")  # the form of the hub's tokens
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")

SHOWN_BY_THE_BAR = {"batch.done", "save.done", "results.written", "pair.skipped"}
"""Events that a terminal leaves out: they would scroll past the progress bar."""


def without_secrets(text: str) -> str:
    """Return a text without the hub's tokens, which a library's message may contain."""
    secrets = [os.environ.get(name, "") for name in TOKEN_VARIABLES]
    if path := os.environ.get("HF_TOKEN_PATH"):
        secrets.append(_token_file(path))
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return TOKEN.sub("***", text)


@cache
def _token_file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


class Stderr:
    """Standard error for the log: a write that fails (on a full disk) ends no run.

    sys.stderr is looked up at each line, because rich replaces it while a bar is drawn.
    """

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        try:
            descriptor = None if sys.stderr.isatty() else sys.stderr.fileno()
        except (OSError, ValueError):  # a test's replacement has none
            descriptor = None
        with suppress(OSError):
            if descriptor is None:
                sys.stderr.write(text)
            else:  # unbuffered: a failed write would be tried again at exit and spoil its code
                os.write(descriptor, text.encode(errors="backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Do nothing: there is no buffer."""


def configure(run_id: str) -> None:
    """Send structlog and the libraries' warnings to stderr, with `run_id` on every line."""
    stream = cast("TextIO", Stderr())
    on_terminal = sys.stderr.isatty()
    renderer = _renderer(on_terminal=on_terminal)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    quiet: list[structlog.typing.Processor] = [_drop_shown_events] if on_terminal else []
    structlog.configure(
        processors=[*quiet, *shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(stream),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(run_id=run_id)
    # The libraries' own logs pass the same renderer, warnings and above only.
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processor=renderer)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def _renderer(*, on_terminal: bool) -> structlog.typing.Processor:
    render: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if on_terminal:
        render = structlog.dev.ConsoleRenderer(colors=not os.environ.get("NO_COLOR"))

    def render_without_secrets(
        logger: structlog.typing.WrappedLogger, method: str, event: structlog.typing.EventDict
    ) -> str:
        return without_secrets(str(render(logger, method, event)))

    return render_without_secrets


def _drop_shown_events(
    logger: structlog.typing.WrappedLogger, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    del logger, method
    if event["event"] in SHOWN_BY_THE_BAR:
        raise structlog.DropEvent
    return event


def progress(total: int, done: int) -> AbstractContextManager[Callable[[int], None]]:
    """Show a bar of pairs on a terminal; yield a function that takes the pairs just done."""
    return _bar(total, done, of_bytes=False)


def byte_progress(total: int) -> AbstractContextManager[Callable[[int], None]]:
    """Show a bar of bytes on a terminal; yield a function that takes the bytes just received."""
    return _bar(total, 0, of_bytes=True)


@contextmanager
def _bar(total: int, done: int, *, of_bytes: bool) -> Iterator[Callable[[int], None]]:
    if not sys.stderr.isatty() or (of_bytes and total == 0):
        yield lambda _: None
        return
    # Imported for a terminal only: start-up stays light.
    from rich import progress as bars  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    pairs = bars.TextColumn("pairs"), bars.BarColumn(), bars.MofNCompleteColumn()
    sizes = bars.BarColumn(), bars.DownloadColumn(binary_units=True), bars.TransferSpeedColumn()
    columns = sizes if of_bytes else (*pairs, bars.TimeElapsedColumn())
    left = bars.TextColumn("left"), bars.TimeRemainingColumn()
    with bars.Progress(*columns, *left, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, completed=done)
        yield lambda count: bar.advance(task, count)
