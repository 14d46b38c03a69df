"""A model alone has a default dictionary; layers, width, L0 and site choose others by a rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atp.config.settings import Settings
from atp.errors import SettingsError
from atp.model.dictionaries.catalogue import counts_by_model
from atp.model.dictionaries.names import check_sae_spec
from atp.model.dictionaries.picking import DEFAULT_LAYERS, choose, sae_specs
from atp.model.names import check_same_model, comparable

SETTINGS = Settings(input=Path("answers.json"), out=Path("o"))
GEMMA_2, GEMMA_3 = "google/gemma-2-9b-it", "google/gemma-3-12b-it"
LLAMA, QWEN = "meta-llama/Llama-3.1-8B", "Qwen/Qwen3-30B-A3B-Base"
OPTIONS = {"layers": "hook_layer", "width": "sae_width", "l0": "sae_l0", "site": "sae_site"}


def specs(model: str, **options: Any) -> tuple[str, ...]:
    """Return what is chosen for a model, by the settings of a run."""
    return sae_specs(replace(SETTINGS, model=model, **options))


def refused(model: str, **options: Any) -> SettingsError:
    """Return the error, of one line, that says what there is instead."""
    with pytest.raises(SettingsError) as caught:
        specs(model, **options)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


def test_the_defaults_are_those_of_every_earlier_version() -> None:
    canonical = "gemma-scope-9b-it-res-canonical"
    assert sae_specs(SETTINGS) == (f"{canonical}:layer_31/width_16k/canonical",)
    assert specs(GEMMA_2, hook_layer=(31, 9), sae_width=131072) == (
        f"{canonical}:layer_31/width_131k/canonical",
        f"{canonical}:layer_9/width_131k/canonical",
    )
    assert specs("google/gemma-2-9b", sae_width=2**20) == (
        "gemma-scope-9b-pt-res-canonical:layer_31/width_1m/canonical",
    )
    assert specs("google/gemma-2-2b", hook_layer=(6,)) == (
        "gemma-scope-2b-pt-res-canonical:layer_6/width_16k/canonical",
    )
    assert specs("google/gemma-2-27b", hook_layer=(22,), sae_width=131072) == (
        "gemma-scope-27b-pt-res-canonical:layer_22/width_131k/canonical",
    )


def test_named_saes_are_taken_as_they_are() -> None:
    assert specs("gpt2", sae=("a:b", "./c"), hook_layer=(9,)) == ("a:b", "./c")


@pytest.mark.parametrize("model", counts_by_model())
def test_every_model_has_a_default_that_is_its_own_and_is_scored(model: str) -> None:
    (spec,) = specs(model)

    check_same_model(model, check_sae_spec(spec), spec)
    assert comparable(model) in DEFAULT_LAYERS


@pytest.mark.parametrize(
    ("model", "options", "spec"),
    [
        (GEMMA_3, {}, "gemma-scope-2-12b-it-res:layer_31_width_16k_l0_medium"),
        (
            GEMMA_3,
            {"hook_layer": (24,), "sae_width": 2**18, "sae_l0": "big"},
            "gemma-scope-2-12b-it-res:layer_24_width_262k_l0_big",
        ),
        (
            GEMMA_3,
            {"hook_layer": (20,)},
            "gemma-scope-2-12b-it-res-all:layer_20_width_16k_l0_small",
        ),
        (GEMMA_3, {"sae_site": "attn"}, "gemma-scope-2-12b-it-att:layer_31_width_16k_l0_medium"),
        (
            GEMMA_3,
            {"sae_site": "mlp", "hook_layer": (30,), "sae_l0": "big"},
            "gemma-scope-2-12b-it-mlp-all:layer_30_width_16k_l0_big",
        ),
        (
            GEMMA_3,
            {"sae_site": "transcoder"},
            "gemma-scope-2-12b-it-transcoders:transcoder/layer_31_width_16k_l0_medium",
        ),
        (
            GEMMA_2,
            {"sae_l0": "small", "hook_layer": (20,)},
            "gemma-scope-9b-it-res:layer_20/width_16k/average_l0_14",
        ),
        (LLAMA, {}, "llama_scope_lxr_8x:l23r_8x"),
        (LLAMA, {"sae_width": 2**17, "sae_site": "mlp"}, "llama_scope_lxm_32x:l23m_32x"),
        (QWEN, {"hook_layer": (3,)}, "qwen-scope-3-30b-a3b-base-w32k-l50:layer3"),
        (QWEN, {"sae_l0": "big"}, "qwen-scope-3-30b-a3b-base-w128k-l100:layer35"),
        (QWEN, {"sae_width": 2**17}, "qwen-scope-3-30b-a3b-base-w128k-l100:layer35"),
        (f"{LLAMA}-Instruct", {}, "goodfire-llama-3.1-8b-instruct:layer_19"),
        (
            f"{LLAMA}-Instruct",
            {"hook_layer": (23,)},
            "llama-3.1-8b-instruct-andyrdt:resid_post_layer_23_trainer_1",
        ),
        ("gpt2-small", {}, "gpt2-small-resid-post-v5-32k:blocks.8.hook_resid_post"),
        ("gpt2", {"sae_width": 2**17}, "gpt2-small-resid-post-v5-128k:blocks.8.hook_resid_post"),
        (
            "EleutherAI/pythia-70m-deduped",
            {"sae_site": "attn"},
            "pythia-70m-deduped-att-sm:blocks.4.hook_attn_out",
        ),
        ("Qwen/Qwen3-14B", {"sae_l0": "small"}, "mwhanna-qwen3-14b-transcoders-lowl0:layer_29"),
        (
            "google/gemma-2-2b",
            {"sae_site": "clt", "hook_layer": (3,)},
            "mntss-gemma-2-2b-2.5m-clt-as-per-layer:layer_3",
        ),
    ],
)
def test_options_choose_within_the_families_of_a_model(
    model: str, options: dict[str, Any], spec: str
) -> None:
    assert specs(model, **options) == (spec,)


def test_several_layers_share_a_release_a_width_and_an_l0() -> None:
    everywhere = specs(GEMMA_3, hook_layer=(31, 20))
    assert everywhere == tuple(
        f"gemma-scope-2-12b-it-res-all:layer_{layer}_width_16k_l0_small" for layer in (31, 20)
    )
    four = specs(GEMMA_3, hook_layer=(12, 24), sae_width=2**20)
    assert four == tuple(
        f"gemma-scope-2-12b-it-res:layer_{layer}_width_1m_l0_medium" for layer in (12, 24)
    )


def test_a_folder_goes_by_its_name_and_the_name_in_its_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / "config.json").write_text(f'{{"_name_or_path": "{GEMMA_3}"}}')

    assert specs(str(folder)) == specs(GEMMA_3)


@pytest.mark.parametrize(
    ("model", "options", "message", "hint"),
    [
        (GEMMA_2, {"hook_layer": (10,)}, "--hook-layer=10: ", "layers 9, 20, 31"),
        (GEMMA_2, {"hook_layer": (9, 10)}, "--hook-layer=10: ", "layers 9, 20, 31"),
        (GEMMA_2, {"sae_width": 2**15}, "--sae-width=32k: ", "It has 16k, 131k;"),
        (GEMMA_2, {"sae_site": "mlp"}, "--sae-site=mlp: ", "It has resid;"),
        (
            GEMMA_3,
            {"sae_width": 2**20, "hook_layer": (24, 20)},
            "at layer 20 has no",
            "It has 16k, 262k;",
        ),
        (
            GEMMA_3,
            {"sae_l0": "medium", "hook_layer": (20,)},
            "--sae-l0=medium: ",
            "It has small, big;",
        ),
        (f"{LLAMA}-Instruct", {"sae_l0": "small"}, "--sae-l0=small: ", "no choice of that"),
        (
            "google/gemma-2-2b",
            {"sae_width": 4096, "hook_layer": (12,)},
            "several",
            "sae_bench_gemma-2-2b_topk",
        ),
        ("gogle/gemma-3-12b", {}, "no SAE is known", "Near: google/gemma-3-12b"),
        ("owner/other", {}, "no SAE is known", "--sae=RELEASE:SAE_ID"),
    ],
)
def test_what_a_family_lacks_is_one_line_that_says_what_it_has(
    model: str, options: dict[str, Any], message: str, hint: str
) -> None:
    error = refused(model, **options)

    assert message in error.message
    assert hint in error.hint


def test_a_choice_never_falls_on_what_is_refused() -> None:
    assert "temporal" not in choose(LLAMA, (15,))[0].spec
    error = refused("gpt2", hook_layer=(10,), sae_width=45 * 1024)
    assert "scefr" not in str(error)
