"""Fixtures: tiny models built once a session, and a clean environment for every test."""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from atp.model.language_model import Model

sys.path.insert(0, str(Path(__file__).parent / "support"))  # also where a worker imports it

# Shapes and dtypes in the signatures of the numerics are checked while tests run.
install_import_hook(
    ["atp.attribution", "atp.stats.bootstrap", "atp.model.head"], "beartype.beartype"
)

# Tiny tensors gain nothing from threads, and threads of several processes wait for each other. The
# real model does: `make test-demo` asks for all cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the tests compare in float32, on a CPU
os.environ["HF_HUB_OFFLINE"] = "1"  # before any hub library is imported: tests need no network
os.environ["PIP_NO_INDEX"] = os.environ["UV_NO_INDEX"] = "1"  # TransformerLens would install things


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `make test-faults` ask for every moment at which a run can be disturbed."""
    parser.addoption("--full", action="store_true", help="tests of chance in their full counts")


@pytest.fixture(autouse=True)
def _clean_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a run sets for its process: logging, and settings from the environment."""
    for name in list(os.environ):
        if name.startswith("ATP_"):
            monkeypatch.delenv(name)
    handlers = logging.getLogger().handlers[:]
    with warnings.catch_warnings():
        yield
    logging.captureWarnings(capture=False)
    logging.getLogger().handlers[:] = handlers
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from an architecture to the folder of its tiny model, named "tiny"."""
    import tiny  # noqa: PLC0415  (imports torch: only for tests that need a model)

    made: dict[str, Path] = {}

    def get(architecture: str) -> Path:
        if architecture not in made:
            folder = tmp_path_factory.mktemp(architecture, numbered=False) / "tiny"
            made[architecture] = tiny.save_model(folder, architecture)
        return made[architecture]

    return get


@pytest.fixture(scope="session")
def loaded(model_folder: Callable[[str], Path]) -> Callable[[str], Model]:
    """Return a function from an architecture to its tiny model, loaded once a session.

    A test must leave the model as it was; one that changes a model loads its own.
    """
    from atp.model.loading import load_model  # noqa: PLC0415  (imports torch)

    models: dict[str, Model] = {}

    def get(architecture: str) -> Model:
        if architecture not in models:
            models[architecture] = load_model(str(model_folder(architecture)), device="cpu")
            # atp collects garbage after each batch that fails. Without what the libraries have made
            # so far, a collection takes a hundredth of the time.
            gc.collect()
            gc.freeze()
        return models[architecture]

    return get


@pytest.fixture
def runs_share_models(
    loaded: Callable[[str], Model],
    model_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Have a run in float32, here or in a fork, use the tiny model that `loaded` holds."""
    import tiny  # noqa: PLC0415

    from atp.model import loading  # noqa: PLC0415

    load_from_disk = loading.load_model

    def load_model(name: str, *, dtype: str | None = None, **how: Any) -> Model:
        architecture = Path(name).parent.name
        is_tiny = architecture in {**tiny.CONFIGS, **tiny.STATEFUL} and name == str(
            model_folder(architecture)
        )
        if is_tiny and dtype in {None, "float32"} and how.get("attention") != "sdpa":
            return loaded(architecture)
        return load_from_disk(name, dtype=dtype, **how)

    monkeypatch.setattr(loading, "load_model", load_model)


@pytest.fixture(scope="session")
def sae_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that saves a tiny SAE of a kind and gives its folder."""
    import tiny  # noqa: PLC0415

    def get(kind: str = "standard", **options: int | str) -> Path:
        folder = tmp_path_factory.mktemp("sae")
        tiny.make_sae(kind, **options).save_model(folder)
        return folder

    return get


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The Chromium that is on PATH."""
    from browser import chromium  # noqa: PLC0415  (only for the tests of pages)

    with chromium() as started:
        yield started


@pytest.fixture
def input_file(tmp_path: Path) -> Path:
    """An input file of the tiny questions."""
    import tiny  # noqa: PLC0415

    path = tmp_path / "feedback.json"
    content = {"metadata": {"model_name": "tiny"}, "results": tiny.questions()}
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """The address of a Ray cluster on this machine, with place for two workers of one thread."""
    import ray_cluster  # noqa: PLC0415

    with ray_cluster.started(2) as (address, _):
        yield address
