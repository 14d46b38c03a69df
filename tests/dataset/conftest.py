"""Fixtures: input files for the tests of the readers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes an input file of bytes, or of a JSON value."""

    def write_file(content: Any, name: str = "input.json") -> Path:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write_file


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for property tests, whose examples share one fixture."""
    return tmp_path_factory.mktemp("scratch")
