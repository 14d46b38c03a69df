"""The hub cache is read as the hub's own library fills it; a part of the weights is no model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from atp.model.hub_cache import cached_folder, hub, weights_bytes

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a commit of owner/model in a cache of the test."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_commit_is_found_by_its_branch_and_by_itself(
    snapshot: Path, revision: str | None
) -> None:
    assert cached_folder("owner/model", revision) == snapshot


@pytest.mark.parametrize(("name", "revision"), [("owner/other", None), ("owner/model", "v2")])
def test_what_is_not_cached_is_not_found(snapshot: Path, name: str, revision: str | None) -> None:
    assert cached_folder(name, revision) is None


def test_single_weights_have_their_size(snapshot: Path) -> None:
    (snapshot / "config.json").write_text("{}")
    assert weights_bytes(snapshot) is None

    (snapshot / "model.safetensors").write_bytes(b"x" * 10)
    assert weights_bytes(snapshot) == 10


def test_parts_count_once_all_of_them_are_there(snapshot: Path) -> None:
    parts = {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    (snapshot / "model-1.safetensors").write_bytes(b"x" * 10)
    assert weights_bytes(snapshot) is None

    (snapshot / "model-2.safetensors").write_bytes(b"x" * 5)
    assert weights_bytes(snapshot) == 15


@pytest.mark.parametrize("index", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {}}'])
def test_an_index_that_names_nothing_is_no_model(snapshot: Path, index: str) -> None:
    (snapshot / "model.safetensors.index.json").write_text(index)
    (snapshot / "model-1.safetensors").write_bytes(b"x")

    assert weights_bytes(snapshot) is None


def test_the_token_is_known_to_be_there_and_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    found = hub()

    assert found.token
    assert "secret" not in repr(found)
