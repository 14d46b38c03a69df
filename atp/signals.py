"""SIGTERM and SIGINT ask for a stop: the run stops when its batch is done, or at the second one."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from atp.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

EXIT_CODES = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.TERMINATED}


class StopRequest:
    """Whether a signal has come, and which exit code it asks for."""

    exit_code: ExitCode | None = None


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Collect the first SIGINT or SIGTERM in the object yielded."""
    request = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        request.exit_code = EXIT_CODES[signal.Signals(number)]
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, note) for number in EXIT_CODES}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
