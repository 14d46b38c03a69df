"""SIGTERM and SIGINT ask for a stop. What that means depends on what would be lost.

Before the first batch and after the last there is nothing to finish: the process leaves at once.
While batches run, the first signal lets the current one finish, for a few seconds at most, and the
run saves and ends; a second signal leaves at once.

Leaving at once is os._exit: an exception would have to wait for threads that hash gigabytes, and a
library may swallow it. What the journal holds is on its way to the disk already, the system frees
the lock. (The default action would not do: the first process of a container ignores it.)
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import structlog

from atp.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

EXIT_CODES = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.TERMINATED}

GRACE_SECONDS = 1.0
"""What the current batch gets to finish; then it is given up, to be computed by the next start."""

log = structlog.get_logger()


class BatchAbortedError(BaseException):
    """Ends a batch that takes too long after a signal; no handler of Exception may swallow it."""


class StopRequest:
    """Whether a signal has asked for a stop, and which exit code it asks for."""

    def __init__(self) -> None:
        self.exit_code: ExitCode | None = None
        self._finishing = self._unwinding = self._giving_up = False

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Have the first signal only noted, while the context lasts: its user ends the work."""
        self._finishing = True
        try:
            yield
        finally:
            self._finishing = False

    @contextmanager
    def unwinding(self) -> Iterator[None]:
        """Have the first signal end the work by SystemExit: there are files to clear away."""
        self._unwinding = True
        try:
            yield
        finally:
            self._unwinding = False

    @contextmanager
    def abortable(self) -> Iterator[None]:
        """Mark work that may be given up; nothing else is ever interrupted.

        Raises:
            BatchAbortedError: a signal came, and the work was not done soon after it.
        """
        self._giving_up = True
        try:
            yield
        finally:
            self._giving_up = False

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Take note of the first signal; leave at a second one, or when nothing would be lost."""
        del frame
        first = self.exit_code is None
        self.exit_code = EXIT_CODES[signal.Signals(number)]
        if first and self._finishing:
            signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)
            return
        if first and self._unwinding:
            sys.exit(self.exit_code)
        with suppress(RuntimeError):  # this very log may be what the signal has interrupted
            log.info("run.stop", reason=signal.Signals(number).name, at_once=True)
        os._exit(self.exit_code)

    def on_alarm(self, number: int, frame: FrameType | None) -> None:
        """Give up what the first signal has not seen finished in time."""
        del number, frame
        if self._giving_up:
            raise BatchAbortedError


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Have SIGINT and SIGTERM treated as said above while the context lasts."""
    request = StopRequest()
    handlers = {**dict.fromkeys(EXIT_CODES, request.on_signal), signal.SIGALRM: request.on_alarm}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    # The container's entry point blocks them until there are handlers; what came waits for these.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, EXIT_CODES)
    try:
        yield request
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
