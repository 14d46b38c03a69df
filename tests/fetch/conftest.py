"""Fixtures: a hub on this machine that has a tiny model and a tiny SAE, and an empty cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_hub import MODEL, SAES, FakeHub, Place, Repository, in_this_process


@pytest.fixture
def place(
    tmp_path: Path, model_folder: Callable[[str], Path], sae_folder: Callable[..., Path]
) -> Place:
    """What the hub serves, and where it is to come."""
    return Place(model_folder("gpt2"), sae_folder("standard"), tmp_path / "home" / "hub")


@pytest.fixture
def hub(place: Place) -> Iterator[FakeHub]:
    """The hub."""
    fake = FakeHub(
        {MODEL: Repository.of(place.model), SAES: Repository.of(place.sae, "layer_1/small")}
    )
    fake.repositories[MODEL].files |= {
        "original/consolidated.pth": b"x",
        "flax_model.msgpack": b"x",
    }
    with fake.serving():
        yield fake


@pytest.fixture
def at_hub(
    hub: FakeHub, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeHub]:
    """The hub, and this process as one that was started with HF_ENDPOINT and an empty HF_HOME."""
    monkeypatch.chdir(tmp_path)
    with in_this_process(hub, place.cache, monkeypatch):
        yield hub
