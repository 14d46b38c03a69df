"""A model that also sees is loaded as a language model: nothing is installed for its images."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from atp import load_model


def test_loading_one_starts_no_process(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TransformerLens would install torchvision with pip, and a CUDA build of torch with it."""
    started: list[object] = []
    monkeypatch.setattr(subprocess, "check_call", started.append)
    load_model(str(model_folder("gemma3_multimodal")), device="cpu")
    assert started == []
