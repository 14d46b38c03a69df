"""SAEs load in float32 and frozen, know where they read, and what does not suit is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from sae_lens import SAE

from atp.errors import AtpError, SettingsError, UnavailableError
from atp.model.dictionaries.loading import load_sae

SaeFolder = Callable[..., Path]


@pytest.mark.parametrize("kind", tiny.SAE_KINDS)
def test_every_kind_loads_frozen_and_in_float32(sae_folder: SaeFolder, kind: str) -> None:
    dictionary = load_sae(str(sae_folder(kind)))
    assert dictionary.hook_name == f"blocks.{tiny.HOOK_LAYER}.hook_resid_post"
    assert dictionary.d_sae == tiny.D_SAE
    assert dictionary.label == f"layer{tiny.HOOK_LAYER}-{tiny.D_SAE}"
    assert all(p.dtype == torch.float32 for p in dictionary.sae.parameters())
    assert not any(p.requires_grad for p in dictionary.sae.parameters())
    x = torch.randn(3, tiny.D_MODEL)
    expected = tiny.make_sae(kind).encode(x)
    torch.testing.assert_close(dictionary.sae.encode(x), expected)
    described = dictionary.describe()
    assert described["model_name"] == "tiny"
    assert len(described["sha256"]) == 64


@pytest.mark.parametrize(
    ("architecture", "extra", "words"),
    [
        ("transcoder", {"d_out": tiny.D_MODEL, "apply_b_dec_to_input": False}, "hook_name_out"),
        ("temporal", {"bottleneck_factor": 2}, "whole sequence"),
    ],
)
def test_a_dictionary_without_a_score_of_one_position_or_a_place_is_refused(
    tmp_path: Path, architecture: str, extra: dict[str, int], words: str
) -> None:
    config = {"architecture": architecture, "d_in": tiny.D_MODEL, "d_sae": 64, **extra}
    config["metadata"] = {"hook_name": "blocks.1.hook_resid_post", "model_name": "tiny"}
    SAE.from_dict(config).save_model(tmp_path)
    with pytest.raises(SettingsError, match=words):
        load_sae(str(tmp_path))


def test_an_sae_that_does_not_say_where_it_reads_is_refused(tmp_path: Path) -> None:
    tiny.make_sae("standard").save_model(tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    del config["metadata"]["hook_name"]
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    with pytest.raises(SettingsError, match="hook point"):
        load_sae(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"normalize_activations": "expected_average_only_in"}, "normalisation"),
        ({"metadata": {"model_from_pretrained_kwargs": {"first_n_layers": 2}}}, "proc"),
        ({"metadata": {"hook_head_index": 3}}, "one attention head"),
        ({"metadata": {"hf_hook_name": 5}}, "no names"),
        ({"metadata": {"hook_name_out": ["blocks.1.hook_mlp_out", 7]}}, "no names"),
        ({"metadata": {"model_from_pretrained_kwargs": "x"}}, "no settings"),
    ],
)
def test_an_sae_that_would_be_wrong_without_a_word_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    tiny.make_sae("standard").save_model(tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    config["metadata"].update(change.pop("metadata", {}))
    (tmp_path / "cfg.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(SettingsError, match=words):
        load_sae(str(tmp_path))


@pytest.mark.parametrize("config", ["{}", '{"architecture": "standard", "d_in": "many"}', "[]"])
def test_a_broken_configuration_is_told_in_one_line(tmp_path: Path, config: str) -> None:
    tiny.make_sae("standard").save_model(tmp_path)
    (tmp_path / "cfg.json").write_text(config)
    with pytest.raises(AtpError) as caught:
        load_sae(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_the_hash_follows_weights_and_settings(tmp_path: Path, sae_folder: SaeFolder) -> None:
    same = [load_sae(str(sae_folder("topk"))).origin for _ in range(2)]
    assert same[0] == same[1]
    assert load_sae(str(sae_folder("topk", seed=1))).origin != same[0]
    tiny.make_sae("topk").save_model(tmp_path)
    config = (tmp_path / "cfg.json").read_text()
    (tmp_path / "cfg.json").write_text(config.replace('"k": 12', '"k": 11'))
    assert load_sae(str(tmp_path)).origin != same[0]


def test_damaged_weights_are_unavailable(tmp_path: Path) -> None:
    tiny.make_sae("standard").save_model(tmp_path)
    weights = tmp_path / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(UnavailableError, match="cannot be loaded") as caught:
        load_sae(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_release_that_is_not_cached_is_unavailable_offline() -> None:
    with pytest.raises(UnavailableError, match="gpt2-small-res-jb"):
        load_sae("gpt2-small-res-jb:blocks.8.hook_resid_pre")
