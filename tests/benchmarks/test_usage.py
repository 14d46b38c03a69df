"""Each benchmark script has a usage that its defaults fit."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from docopt import docopt

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if "__main__" in path.read_text())


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_can_be_started_without_options(path: Path) -> None:
    usage = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert usage is not None
    arguments = docopt(usage, [])
    assert f"{path.name} " in usage
    assert len(arguments) > 1


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 6
