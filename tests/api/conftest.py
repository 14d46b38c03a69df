"""Fixtures: a folder with a tiny model, two SAEs and an input, as the examples name them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from runs import write


@pytest.fixture
def workplace(
    tmp_path: Path, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder, which is the current one."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny").symlink_to(model_folder("llama"))
    for layer in (1, 2):
        sae = tiny.make_sae("standard", layer=layer, seed=layer)
        sae.save_model(tmp_path / "saes" / f"layer{layer}")
    (question,) = tiny.questions(1)
    write(tmp_path / "feedback.json", [{**question, "variations": question["variations"][:3]}])
    monkeypatch.chdir(tmp_path)
    return tmp_path
