"""The walk of a pair in CONTRIBUTING.md names real functions, and the table names every package."""

from __future__ import annotations

import re
from functools import reduce
from importlib import import_module
from pathlib import Path

import atp

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def resolve(name: str) -> object:
    """Return what a dotted name below `atp` stands for."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(["atp", *parts[:length]])
        if (ROOT / module.replace(".", "/")).with_suffix(".py").exists():
            return reduce(getattr, parts[length:], import_module(module))
    raise LookupError(name)


def test_the_walk_of_a_pair_names_functions_that_exist() -> None:
    walk = TEXT.partition("## The walk of a pair")[2].partition("\n## ")[0]
    names = re.findall(r"(?<![\w.])([a-z_]+\.[a-z_]+(?:\.[A-Za-z_]+)+)", walk)
    assert len(names) > 20
    for name in names:
        assert callable(resolve(name)), name


def test_the_walk_of_a_pair_fits_on_a_screen() -> None:
    walk = TEXT.partition("## The walk of a pair")[2].partition("\n## ")[0]
    assert len([line for line in walk.splitlines() if line.startswith("    ")]) <= 26


def test_every_package_has_its_room() -> None:
    rooms = TEXT.partition("## Rooms")[2].partition("\n## ")[0]
    packages = {path.parent.name for path in Path(atp.__file__).parent.glob("*/__init__.py")}
    assert not {name for name in packages if f"{name}/" not in rooms}
