"""The log on stderr: JSON lines for machines, readable lines for a person.

docs/logs.md lists the events. Prompts and responses are never logged, and secrets are blotted out.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TextIO, cast

import structlog

TOKEN = re.compile(r"hf_[A-Za-z0-9]{8,}")  # the form of the hub's tokens
PLAIN = "\x1b[0m"
LEVEL_COLOURS = {"info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
LEVEL_COLOURS |= {"debug": PLAIN, "critical": LEVEL_COLOURS["error"]}
COLOUR = re.compile(r"\x1b\[\d+m")
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


@dataclass(frozen=True)
class Shown:
    """What standard error shows."""

    console: bool = False  # lines for a person, not JSON
    quiet: bool = False  # warnings and errors alone
    live: bool = False  # a live line, on a terminal


_shown = Shown()


def shown() -> Shown:
    """Return what standard error shows in this process."""
    return _shown


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


def configure(
    run_id: str, log_format: str = "auto", *, quiet: bool = False, verbose: bool = False
) -> None:
    """Send structlog and the libraries' warnings to stderr.

    As JSON, every line has `run_id`, and every event is shown. For a person, only warnings and
    errors are, unless `verbose`; `quiet` leaves out everything else in both.
    """
    global _shown  # noqa: PLW0603  (a process has one standard error)
    stream = cast("TextIO", Stderr())
    on_terminal = sys.stderr.isatty()
    console = log_format == "console" or (log_format == "auto" and on_terminal)
    _shown = Shown(console, quiet=quiet, live=console and on_terminal and not quiet)
    shared: list[structlog.typing.Processor] = [structlog.processors.add_log_level]
    if console:
        shared.append(structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False))
    else:
        shared.insert(0, structlog.contextvars.merge_contextvars)
        shared.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    renderer = _renderer(console=console, colours=on_terminal and not plain)
    level = logging.WARNING if quiet or (console and not verbose) else logging.INFO
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
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


def _as_a_sentence(
    logger: structlog.typing.WrappedLogger,
    method: str,
    event: structlog.typing.EventDict,
    *,
    colours: bool,
) -> str:
    """Return an event as a line for a person: time, level, name, what is wrong, and the rest."""
    del logger, method
    event.pop("run_id", None)
    level = event.pop("level")
    head = f"{event.pop('timestamp')} {LEVEL_COLOURS[level]}{level}{PLAIN}: {event.pop('event')}"
    text = " ".join(str(event.pop(name)) for name in ("message", "reason", "hint") if name in event)
    rest = ", ".join(f"{name} {_in_words(value)}" for name, value in event.items())
    line = "; ".join(filter(None, [f"{head}: {text}" if text else head, rest]))
    return line if colours else COLOUR.sub("", line)


def _in_words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _renderer(*, console: bool, colours: bool) -> structlog.typing.Processor:
    render: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if console:
        render = partial(_as_a_sentence, colours=colours)

    def render_without_secrets(
        logger: structlog.typing.WrappedLogger, method: str, event: structlog.typing.EventDict
    ) -> str:
        return without_secrets(str(render(logger, method, event)))

    return render_without_secrets
