"""Fixtures: the image under test, its engine, and a volume as a user fills it.

tools/image/test.sh builds the image and passes its name in the environment.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import default_hub
import pytest
import tiny
from containers import Image


@pytest.fixture(scope="session")
def image() -> Image:
    """The image that was built for these tests."""
    if "IMAGE" not in os.environ:
        pytest.fail("there is no image: run `make image-test`")
    return Image(os.environ["IMAGE_ENGINE"], os.environ["IMAGE"])


@pytest.fixture(scope="session")
def canary() -> str:
    """A hub token that lay about while the image was built."""
    return os.environ["IMAGE_CANARY"]


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the default model and its SAE."""
    return default_hub.make(tmp_path_factory.mktemp("hf"))


@pytest.fixture
def volume(tmp_path: Path, hub: Path) -> Path:
    """A folder to be mounted: an input, model and SAE in the cache, open to the image's user."""
    folder = tmp_path / "data"
    (folder / "input").mkdir(parents=True)
    (folder / "cache").mkdir()
    shutil.copytree(hub, folder / "cache" / "huggingface", symlinks=True)
    content = {"metadata": {"model_name": "tiny"}, "results": tiny.questions()}
    (folder / "input" / "feedback.json").write_text(json.dumps(content), encoding="utf-8")
    for path in folder.rglob("*"):  # pytest's folders, and weights, are their user's alone
        path.chmod(0o755 if path.is_dir() else 0o644)
    folder.chmod(0o777)
    return folder
