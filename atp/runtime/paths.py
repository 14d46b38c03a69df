"""Paths as users write them."""

from pathlib import Path


def local_path(name: str) -> Path:
    """Return the path a name means; "~nobody" of no known user stays as it is."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)
