"""SIGTERM and SIGINT ask for a stop. The reaction depends on what would be lost.

- Before the first batch and after the last, nothing would be lost: the process exits at once.
- While batches run, the first signal lets the current batch finish, for GRACE_SECONDS at most; then
  the run saves and ends. A second signal exits at once.

Exiting at once is os._exit: an exception would have to wait for threads that hash gigabytes, and a
library may swallow it. The operating system already has the journal's bytes, and it frees the lock.
(The signals' default action would not do: the first process of a container ignores it.)
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal

import structlog

from atp.errors import ExitCode
from atp.runtime.live import restore_terminal
from atp.runtime.log import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from types import FrameType

    Reaction = Literal["exit", "finish", "unwind"]

EXIT_CODES = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.TERMINATED}

GRACE_SECONDS = 1.0
"""The time that the current batch gets to finish; then it is left to the next start."""

log = structlog.get_logger()


class BatchAbortedError(BaseException):
    """Ends a batch that takes too long after a signal; no handler of Exception may swallow it."""


class StopRequest:
    """Whether a signal has asked for a stop, and the exit code that it asks for."""

    def __init__(self) -> None:
        self.exit_code: ExitCode | None = None
        self._on_first: Reaction = "exit"
        self._may_abort = False

    @property
    def requested(self) -> bool:
        """Whether a stop was asked for."""
        return self.exit_code is not None

    def finishing(self) -> AbstractContextManager[None]:
        """Return a context in which the first signal is only recorded: the caller ends the work."""
        return self._reacting("finish")

    def unwinding(self) -> AbstractContextManager[None]:
        """Return a context in which the first signal raises SystemExit, to remove files."""
        return self._reacting("unwind")

    @contextmanager
    def _reacting(self, reaction: Reaction) -> Iterator[None]:
        before, self._on_first = self._on_first, reaction
        try:
            yield
        finally:
            self._on_first = before

    @contextmanager
    def abortable(self) -> Iterator[None]:
        """Mark work in which BatchAbortedError may be raised, GRACE_SECONDS after a signal."""
        self._may_abort = True
        try:
            yield
        finally:
            self._may_abort = False

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGINT and SIGTERM."""
        del frame
        first = not self.requested
        self.exit_code = EXIT_CODES[signal.Signals(number)]
        if first and self._on_first == "finish":
            signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)
            return
        if first and self._on_first == "unwind":
            sys.exit(self.exit_code)
        with suppress(RuntimeError):  # the signal may have interrupted this very log
            log.info("run.stop", reason=signal.Signals(number).name, at_once=True)
        restore_terminal()
        if shown().console:
            with suppress(OSError):
                os.write(
                    2,
                    b"\natp: stopped; all that was computed is saved. The same command resumes.\n",
                )
        os._exit(self.exit_code)

    def on_alarm(self, number: int, frame: FrameType | None) -> None:
        """Abort work that the first signal's time has run out for."""
        del number, frame
        if self._may_abort:
            raise BatchAbortedError


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Handle SIGINT and SIGTERM as described above while the context lasts."""
    request = StopRequest()
    handlers = {**dict.fromkeys(EXIT_CODES, request.on_signal), signal.SIGALRM: request.on_alarm}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    # The container's entry point blocks the signals until handlers exist; pending ones arrive now.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, EXIT_CODES)
    try:
        yield request
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
