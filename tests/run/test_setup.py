"""A start: what torch reads from the environment is there first; garbage is collected after it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from atp.run.setup import uncollected

SETTING, OLD_NAME = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"
TELL = f"""
import os, sys
from importlib.abc import MetaPathFinder

class Tell(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("{SETTING}"), os.environ.get("{OLD_NAME}"), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Tell())
from atp.cli.main import main
sys.exit(main(sys.argv[1:]) or 99)
"""
"""Ends where torch is about to be imported; prints what it would find."""


@pytest.fixture
def options(
    tmp_path: Path,
    input_file: Path,
    model_folder: Callable[[str], Path],
    sae_folder: Callable[..., Path],
) -> list[str]:
    """Arguments with which a command would begin to load."""
    return [
        str(input_file),
        f"--model={model_folder('gpt2')}",
        f"--sae={sae_folder('standard')}",
        f"--out={tmp_path / 'out'}",
    ]


@pytest.mark.parametrize("command", ["run", "bench"])
@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "expandable_segments:True None"),
        ({SETTING: "max_split_size_mb:64"}, "max_split_size_mb:64 None"),
        ({OLD_NAME: "max_split_size_mb:64"}, "None max_split_size_mb:64"),
    ],
)
def test_memory_comes_in_segments_that_grow_unless_the_user_says_otherwise(
    options: list[str], command: str, given: dict[str, str], found: str
) -> None:
    environment = {name: os.environ[name] for name in os.environ if name not in {SETTING, OLD_NAME}}
    ended = subprocess.run(
        [sys.executable, "-c", TELL, command, *options],
        capture_output=True,
        text=True,
        check=True,
        env={**environment, **given},
    )
    assert ended.stdout.strip() == found


def test_garbage_is_collected_again_after_a_load_that_fails() -> None:
    with suppress(ZeroDivisionError), uncollected():
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert gc.isenabled()
