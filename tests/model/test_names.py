"""A model goes by several names, and an SAE of another model is told from its name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from other_users import open_to_all

from atp.errors import SettingsError
from atp.model.names import check_same_model


def test_an_sae_of_another_model_is_refused_by_its_name() -> None:
    check_same_model("google/gemma-2-9b-it", "gemma-2-9b-it", "some-sae")
    with pytest.raises(SettingsError, match="gemma-2-9b-it"):
        check_same_model("google/gemma-2-9b", "gemma-2-9b-it", "some-sae")


@pytest.mark.parametrize(
    ("model", "trained_on"),
    [
        ("openai-community/gpt2", "gpt2-small"),
        ("gpt2", "gpt2"),
        ("google/gemma-2-2b", "gemma-2-2b"),
        ("./models/SmolLM2-135M-Instruct.Q4_1.gguf", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("anything", None),
    ],
)
def test_names_of_one_model_agree(model: str, trained_on: str | None) -> None:
    check_same_model(model, trained_on, "some-sae")


def test_a_folder_in_the_hub_cache_goes_by_its_hub_name(tmp_path: Path) -> None:
    folder = tmp_path / "models--google--gemma-2-2b" / "snapshots" / "0123abc"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    check_same_model(str(folder), "gemma-2-2b", "some-sae")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_model_that_its_user_may_not_read_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").touch(mode=0o600)
    open_to_all(folder)
    script = (
        "import os, sys; from atp.model.names import check_model_name; os.setuid(4711)\n"
        "try: check_model_name(sys.argv[1])\n"
        "except Exception as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True
    )
    assert "user 4711 may not read model.safetensors. Open it: chmod a+r" in done.stdout
