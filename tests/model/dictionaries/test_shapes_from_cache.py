"""A Gemma Scope 2 SAE in the cache is loaded without a network: its shapes are read there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from sae_lens.loading import pretrained_sae_loaders as loaders
from safetensors.numpy import save_file

from atp.model.dictionaries.loading import load_sae

RELEASE, SAE_ID = "gemma-scope-2-270m-pt-res", "layer_12_width_16k_l0_small"
D_IN, D_SAE = 640, 16


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds the weights of one SAE, thinner than the real one, and nothing else."""
    from sae_lens.loading.pretrained_saes_directory import (  # noqa: PLC0415
        get_pretrained_saes_directory,
    )

    release = get_pretrained_saes_directory()[RELEASE]
    root = tmp_path / f"models--{release.repo_id.replace('/', '--')}"
    folder = root / "snapshots" / ("1" * 40) / release.saes_map[SAE_ID]
    folder.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("1" * 40)
    rng = np.random.default_rng(0)
    weights = {
        "w_enc": rng.normal(size=(D_IN, D_SAE)),
        "w_dec": rng.normal(size=(D_SAE, D_IN)),
        "b_enc": np.zeros(D_SAE),
        "b_dec": np.zeros(D_IN),
        "threshold": np.ones(D_SAE),
    }
    save_file(
        {name: value.astype(np.float32) for name, value in weights.items()},
        folder / "params.safetensors",
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_its_shapes_come_from_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asks = loaders.get_safetensors_tensor_shapes

    def no_network(*_: object, **__: object) -> None:
        pytest.fail("the hub was asked")

    monkeypatch.setattr(loaders.requests, "get", no_network)

    dictionary = load_sae(f"{RELEASE}:{SAE_ID}")

    assert dictionary.d_sae == D_SAE
    assert dictionary.sae.cfg.d_in == D_IN
    assert loaders.get_safetensors_tensor_shapes is asks  # as it was
