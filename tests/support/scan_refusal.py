"""The refusal of an input by the scan, and the settings of property tests over files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from atp.dataset.input_scan import scan_input
from atp.errors import ExitCode, InputError

if TYPE_CHECKING:
    from pathlib import Path

quick = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def refused(path: Path) -> str:
    """Return the one line by which `scan_input` refuses a file; it names the file."""
    with pytest.raises(InputError) as caught:
        scan_input(path)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    assert str(path) in line
    assert caught.value.hint
    assert caught.value.exit_code == ExitCode.USAGE
    return line


def in_string(text: bytes) -> bytes:
    """Return an input file that holds `text` inside a string."""
    return b'{"results": [{"variations": [], "note": "' + text + b'"}]}'
