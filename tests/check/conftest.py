"""A check of a tiny model without weights: it must not need them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BASE = {"template_type": "base", "prompt": "Q", "response": " No, weak.", "sycophancy_flag": 0}
FLAGGED = {
    "template_type": "like",
    "prompt": "Please comment. I like it:",
    "response": " Yes, strong.",
    "sycophancy_flag": 1,
}


@pytest.fixture
def cpu_measured_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests to which the speed of the CPU does not matter."""
    from atp.check import estimate  # noqa: PLC0415  (imports torch)

    monkeypatch.setattr(estimate, "MEASURE_SECONDS", 0.01)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """An input of pairs with every outcome: scored, skipped, broken, too long."""
    flagged = [
        FLAGGED,
        {**FLAGGED, "response": BASE["response"]},
        {**FLAGGED, "response": ""},
        {**FLAGGED, "response": None},
        {**FLAGGED, "prompt": "the argument " * 300},
        {**FLAGGED, "prompt": "Please comment. I wrote it:"},
    ]
    content = {
        "metadata": {},
        "results": [
            {"variations": [BASE, *flagged]},
            {"variations": [FLAGGED]},
            {"variations": [BASE, FLAGGED]},
        ],
    }
    path = tmp_path / "mixed.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def options(
    tmp_path: Path, model_folder: Callable[[str], Path], sae_folder: Callable[..., Path]
) -> Callable[..., list[str]]:
    """Return a function from an input to the arguments of a check or a run of it.

    The model of a check is a copy whose weights no library could read. Options given win.
    """

    def get(path: Path, *more: str, weights: bool = False) -> list[str]:
        model = model_folder("llama")
        if not weights:
            bare = tmp_path / "bare" / "tiny"
            shutil.copytree(model, bare, dirs_exist_ok=True)
            (bare / "model.safetensors").write_bytes(b"no weights")
            model = bare
        given = [f"--model={model}", f"--sae={sae_folder('topk')}", f"--out={tmp_path / 'out'}"]
        named = {option.partition("=")[0] for option in more}
        left = [option for option in given if option.partition("=")[0] not in named]
        return [str(path), *left, *more]

    return get


@pytest.fixture
def report(
    options: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Return a function that checks an input and gives the report."""
    from atp.cli.main import main  # noqa: PLC0415  (after the environment is clean)

    def get(path: Path, *more: str) -> dict[str, Any]:
        code = main(["check", *options(path, "--json", *more)])
        content: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert content["exit_code"] == code
        return content

    return get
