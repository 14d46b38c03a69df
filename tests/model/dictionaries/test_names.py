"""Names of SAEs are checked without SAELens, and a pattern means all that match it, each once."""

from __future__ import annotations

from pathlib import Path

import pytest

from atp.errors import SettingsError
from atp.model.dictionaries.names import check_sae_spec, expand_sae_specs, neuronpedia_page

RELEASE = "gemma-scope-2b-pt-res-canonical"
LAYERS = [f"{RELEASE}:layer_{n}/width_16k/canonical" for n in range(26)]


@pytest.fixture
def saes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of SAE folders, under the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("layer_10", "layer_2", "layer_1", "layer_01", "other", ".layer_0", "layer_2/deep"):
        (tmp_path / "saes" / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "saes" / "layer_3").write_text("a file")
    return tmp_path / "saes"


def refused(*specs: str) -> SettingsError:
    """Return the error, of one line, by which patterns are refused."""
    with pytest.raises(SettingsError) as caught:
        expand_sae_specs(specs)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


# --- names


@pytest.mark.parametrize(
    ("spec", "near"),
    [
        (
            "gemma-scope-9b-it-res-canonica:layer_31/width_16k/canonical",
            "gemma-scope-9b-it-res-canonical",
        ),
        (
            "gemma-scope-9b-it-res-canonical:layer_31/width_16/canonical",
            "layer_31/width_16k/canonical",
        ),
        (
            "gemma-scope-2-12b-it-res:layer_24_width_131k_l0_medium",
            "layer_24_width_16k_l0_medium",
        ),
        ("./no/such/folder", "RELEASE:SAE_ID"),
    ],
)
def test_an_unknown_name_lists_near_ones(spec: str, near: str) -> None:
    with pytest.raises(SettingsError, match=near):
        check_sae_spec(spec)


def test_gemma_scopes_release_of_the_tuned_model_is_not_of_the_base_model_as_listed() -> None:
    assert check_sae_spec("gemma-scope-9b-it-res:layer_9/width_16k/average_l0_88") == (
        "gemma-2-9b-it"
    )


def test_a_release_knows_its_model_without_being_loaded() -> None:
    spec = "gemma-scope-9b-it-res-canonical:layer_31/width_16k/canonical"
    assert check_sae_spec(spec) == "gemma-2-9b-it"


def test_a_name_that_no_folder_can_have_is_told_as_any_other() -> None:
    with pytest.raises(SettingsError, match="neither RELEASE:SAE_ID nor a folder"):
        check_sae_spec("x" * 300)
    assert "matches no folder" in refused("x" * 300 + "*").message


# --- patterns


def test_a_name_that_is_no_pattern_comes_out_as_it_went_in(saes: Path) -> None:
    specs = ("no-release:no-id", "./none", "owner/repository:id", "saes/other/", LAYERS[3])
    assert expand_sae_specs(specs) == specs


def test_a_pattern_means_all_ids_of_the_release_that_match_in_natural_order() -> None:
    assert expand_sae_specs([f"{RELEASE}:layer_*/width_16k/canonical"]) == tuple(LAYERS)
    few = f"{RELEASE}:layer_[12]?/width_16k/canonical"
    assert expand_sae_specs([few]) == tuple(LAYERS[10:])


def test_widths_come_in_natural_order_too() -> None:
    found = expand_sae_specs(["gemma-scope-9b-it-res-canonical:layer_[39]*/*/canonical"])
    assert [name.partition(":")[2] for name in found] == [
        "layer_9/width_16k/canonical",
        "layer_9/width_131k/canonical",
        "layer_31/width_16k/canonical",
        "layer_31/width_131k/canonical",
    ]


@pytest.mark.parametrize("pattern", ["*", "layer_*/canonical", "**/canonical", "LAYER_*/*/*"])
def test_no_wildcard_takes_a_slash_and_case_counts(pattern: str) -> None:
    error = refused(f"{RELEASE}:{pattern}")
    assert repr(pattern) in error.message
    assert "layer_" in error.hint


def test_a_local_pattern_means_folders_in_natural_order(saes: Path) -> None:
    layers = ("saes/layer_01", "saes/layer_1", "saes/layer_2", "saes/layer_10")
    assert expand_sae_specs(["./saes/layer_*"]) == layers
    assert expand_sae_specs(["saes/layer_*/"]) == layers
    assert expand_sae_specs(["sa*/layer_[12]"]) == ("saes/layer_1", "saes/layer_2")
    assert expand_sae_specs([f"{saes}/*th*"]) == (f"{saes}/other",)


def test_a_local_pattern_goes_no_deeper_and_passes_over_hidden_folders(saes: Path) -> None:
    assert expand_sae_specs(["saes/**"]) == expand_sae_specs(["saes/*"])
    assert not {"saes/.layer_0", "saes/layer_2/deep"} & {*expand_sae_specs(["saes/*"])}
    assert expand_sae_specs(["saes/.l*"]) == ("saes/.layer_0",)


def test_a_pattern_in_the_home_folder_is_found(saes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(saes))
    assert expand_sae_specs(["~/oth*"]) == (f"{saes}/other",)


@pytest.mark.parametrize("name", ["run[12]", "what?", "a*", "release:layer_*"])
def test_a_folder_that_is_there_goes_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (name, "run1", "ab"):
        (tmp_path / folder / "layer_1").mkdir(parents=True)
    assert expand_sae_specs([name, f"./{name}/"]) == (name,)
    assert expand_sae_specs([f"./{name}/layer*"]) == (f"{name}/layer_1",)


def test_an_sae_that_comes_up_twice_keeps_its_first_place() -> None:
    pattern = f"{RELEASE}:layer_[1-3]/width_16k/canonical"
    assert expand_sae_specs([LAYERS[2], pattern, pattern, LAYERS[0], LAYERS[2]]) == (
        LAYERS[2],
        LAYERS[1],
        LAYERS[3],
        LAYERS[0],
    )


def test_a_folder_is_the_same_however_it_is_named(saes: Path) -> None:
    (saes / "latest").symlink_to(saes / "layer_10")
    named = ["./saes/layer_2/", "saes/layer_2", str(saes / "layer_2"), "saes/latest"]
    assert expand_sae_specs([*named, "saes/layer_?*"]) == (
        "./saes/layer_2/",
        "saes/latest",
        "saes/layer_01",
        "saes/layer_1",
    )


def test_a_pattern_of_folders_that_matches_nothing_lists_near_ones(saes: Path) -> None:
    error = refused("saes/layer_1*", "saes/leyer_*")
    assert "--sae=saes/leyer_* matches no folder" in error.message
    assert "saes/layer_1" in error.hint
    assert "saes/layer_3" not in error.hint  # a file
    assert refused("zzz*").hint


def test_a_pattern_of_an_unknown_release_lists_near_ones() -> None:
    error = refused("gemma-scope-2b-pt-res-canonica:layer_*")
    assert "'gemma-scope-2b-pt-res-canonica'" in error.message
    assert RELEASE in error.hint
    assert "no release 'gemma-scope-*'" in refused("gemma-scope-*:layer_1/*/*").message


def test_a_pattern_of_a_repository_that_saelens_does_not_list_asks_for_names() -> None:
    error = refused("owner/repository:layer_*")
    assert "owner/repository" in error.message
    assert "--sae=owner/repository:SAE_ID" in error.hint


# --- pages


@pytest.mark.parametrize(
    ("spec", "path", "page"),
    [
        (
            "gemma-scope-9b-it-res-canonical:layer_31/width_16k/canonical",
            "layer_31/width_16k/average_l0_76",
            "https://www.neuronpedia.org/gemma-2-9b-it/31-gemmascope-res-16k",
        ),
        ("gemma-scope-9b-it-res-canonical:layer_31/width_16k/canonical", "elsewhere", None),
        ("gemma-scope-9b-it-res-canonical:layer_31/width_16k/canonical", None, None),
        ("gemma-scope-9b-it-res-canonical:none", None, None),
        ("gemma-scope-9b-pt-att:layer_0/width_16k/average_l0_12", "x", None),
        ("no-such-release:x", "x", None),
        ("owner/repository:x", "x", None),
        ("./sae", None, None),
        ("sae", None, None),
    ],
)
def test_an_sae_that_neuronpedia_shows_has_its_page(
    spec: str, path: str | None, page: str | None
) -> None:
    assert neuronpedia_page(spec, path) == page
