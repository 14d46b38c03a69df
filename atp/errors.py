"""Everything that can go wrong for a user, and the exit code of each kind.

Every error that a user may meet is an AtpError: one line that says what is wrong and where, a
hint that says how to mend it, and an exit code. Anything else that escapes is a bug of atp.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command."""

    OK = 0  # every pair has a result; skipped pairs included
    PAIRS_FAILED = 1  # the run is complete and some pairs carry `error`
    USAGE = 2  # the command line, the settings or the input file are at fault
    UNAVAILABLE = 3  # the model, the SAE or the device cannot be had
    BUG = 70  # a fault of atp itself (EX_SOFTWARE)
    SAVE_FAILED = 74
    """Results could not be written (EX_IOERR); what was saved before is intact."""
    BUSY = 75  # another run holds the output folder (EX_TEMPFAIL)
    INTERRUPTED = 130  # stopped by SIGINT
    TERMINATED = 143  # stopped by SIGTERM


class AtpError(Exception):
    """Something the user can mend: a message on what is wrong and where, a hint on what to do."""

    exit_code = ExitCode.USAGE

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Return message and hint as one line; the words of a library may lack a full stop."""
        stop = "." if self.hint and not self.message.rstrip().endswith((".", "!", "?")) else ""
        return re.sub(r"\s*[\r\n]\s*", " ", f"{self.message.rstrip()}{stop} {self.hint}".strip())


class SettingsError(AtpError):
    """An option, an environment variable or the usage is at fault."""


class InputError(AtpError):
    """The input file is at fault."""


class UnavailableError(AtpError):
    """The model, the SAE or the device cannot be had."""

    exit_code = ExitCode.UNAVAILABLE


class SaveError(AtpError):
    """Results could not be written."""

    exit_code = ExitCode.SAVE_FAILED


class BusyError(AtpError):
    """Another run holds the output folder."""

    exit_code = ExitCode.BUSY


class StoppedError(AtpError):
    """A signal asked the run to stop: INTERRUPTED or TERMINATED."""

    def __init__(self, exit_code: ExitCode, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code
        self.signal = "SIGINT" if exit_code == ExitCode.INTERRUPTED else "SIGTERM"


def did_you_mean(name: str, known: Iterable[str], count: int = 5) -> str:
    """Return "Near: a, b." with the known names nearest to `name`, or an empty string."""
    near = get_close_matches(name, list(known), n=count, cutoff=0.4)
    return f"Near: {', '.join(near)}." if near else ""
