"""An SAE's size, hook point and place are known from its files or its name, before it is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from huggingface_hub import constants

from atp.errors import SettingsError
from atp.model.dictionaries.outline import SaeOutline, sae_outline
from atp.model.memory_model import Shape

GEMMA_9B = Shape(42, 16, 8, 256, 3584, 14336, 2)
TINY = Shape(tiny.N_LAYERS, 4, 4, 8, tiny.D_MODEL, 64, 4)


@pytest.mark.parametrize("kind", ["standard", "jumprelu", "gated", "topk"])
def test_a_folder_tells_all_and_the_bytes_are_those_of_the_weights(
    sae_folder: Callable[..., Path], kind: str
) -> None:
    folder = sae_folder(kind, layer=2)

    found = sae_outline(str(folder), TINY)

    sae = tiny.make_sae(kind, layer=2)
    assert found.where == "folder"
    assert found.hook_name == "blocks.2.hook_resid_post"
    assert (found.d_in, found.d_sae, found.architecture) == (tiny.D_MODEL, tiny.D_SAE, kind)
    assert found.bytes == sum(tensor.nbytes for tensor in sae.state_dict().values())
    found.check_fit("tiny", TINY)


def test_gemma_scope_tells_by_its_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    found = sae_outline("gemma-scope-9b-it-res-canonical:layer_31/width_16k/canonical", GEMMA_9B)

    assert (found.where, found.hook_name) == ("hub", "blocks.31.hook_resid_post")
    assert (found.d_in, found.d_sae) == (3584, 16384)
    assert found.bytes == 4 * (2 * 3584 * 16384 + 3584 + 2 * 16384)


def test_a_wide_sae_of_gemma_scope_2_says_its_size_before_it_is_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    found = sae_outline("gemma-scope-2-12b-it-res:layer_31_width_1m_l0_medium", None)

    assert (found.hook_name, found.d_in, found.d_sae) == ("blocks.31.hook_resid_post", 3840, 2**20)
    assert found.bytes == 4 * (2 * 3840 * 2**20 + 3840 + 2 * 2**20)


def test_what_a_name_does_not_tell_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    found = sae_outline("owner/saes:layer_3", None)
    width = sae_outline("gpt2-small-res-jb:blocks.3.hook_resid_pre", None)

    assert found == SaeOutline(found.spec, "hub", None, None, None, None, None)
    assert width == SaeOutline(width.spec, "hub", "blocks.3.hook_resid_pre", 768)


def test_a_cached_sae_tells_what_its_files_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sae_folder: Callable[..., Path]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--saes"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0")
    folder = repository / "snapshots" / "c0" / "layer_1"
    shutil.copytree(sae_folder("topk"), folder)

    found = sae_outline("owner/saes:layer_1", TINY)

    assert (found.where, found.d_sae) == ("cache", tiny.D_SAE)
    (folder / "sae_weights.safetensors").unlink()
    assert sae_outline("owner/saes:layer_1", TINY).where == "hub"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metadata": {"hook_name": "blocks.4.hook_resid_post"}}, "has 4 layers"),
        ({"d_in": 64}, "64 numbers"),
        ({"architecture": "temporal"}, "is a temporal SAE"),
    ],
)
def test_an_sae_that_cannot_be_the_models_is_refused(
    tmp_path: Path, sae_folder: Callable[..., Path], changes: dict[str, object], message: str
) -> None:
    folder = tmp_path / "sae"
    shutil.copytree(sae_folder("standard"), folder)
    config = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(config | changes))

    with pytest.raises(SettingsError, match=message):
        sae_outline(str(folder), TINY).check_fit("tiny", TINY)


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 8, b"\xff" * 40, (9).to_bytes(8, "little") + b"[1, 2, 3]"]
)
def test_a_broken_header_is_an_unknown_size(
    tmp_path: Path, sae_folder: Callable[..., Path], content: bytes
) -> None:
    folder = tmp_path / "sae"
    shutil.copytree(sae_folder("standard"), folder)
    (folder / "sae_weights.safetensors").write_bytes(content)

    assert sae_outline(str(folder), TINY).bytes is None
