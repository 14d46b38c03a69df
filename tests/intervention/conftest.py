"""Loaded tiny models, each once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def loaded(model_folder: Callable[[str], Path]) -> Callable[[str], object]:
    """Return a function from an architecture to its loaded tiny model."""
    from atp import load_model  # noqa: PLC0415  (imports torch)

    models: dict[str, object] = {}

    def get(architecture: str) -> object:
        if architecture not in models:
            models[architecture] = load_model(str(model_folder(architecture)), device="cpu")
        return models[architecture]

    return get
