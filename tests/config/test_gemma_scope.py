"""Layers and width name the canonical SAEs of Gemma Scope, as SAELens knows them."""

from __future__ import annotations

import pytest

from atp.config.gemma_scope import CANONICAL_RELEASES, WIDTHS, canonical_saes, sae_width
from atp.errors import SettingsError
from atp.model.dictionaries.names import check_sae_spec


def test_saes_follow_from_layers_and_width() -> None:
    assert canonical_saes("google/gemma-2-9b-it", (9, 31), 16384) == (
        "gemma-scope-9b-it-res-canonical:layer_9/width_16k/canonical",
        "gemma-scope-9b-it-res-canonical:layer_31/width_16k/canonical",
    )


@pytest.mark.parametrize(("name", "features"), WIDTHS.items())
def test_a_width_in_either_spelling_names_the_saes_of_that_many_features(
    name: str, features: int
) -> None:
    assert sae_width("--sae-width", name) == sae_width("--sae-width", str(features)) == features
    (spec,) = canonical_saes("google/gemma-2-9b", (31,), features)
    assert spec == f"gemma-scope-9b-pt-res-canonical:layer_31/width_{name}/canonical"


def test_widths_are_thousands_as_gemma_scope_counts_them() -> None:
    assert [WIDTHS[name] for name in ("16k", "65k", "131k", "1m")] == [2**14, 2**16, 2**17, 2**20]


def test_a_width_that_the_model_lacks_is_never_taken_for_another() -> None:
    with pytest.raises(SettingsError):
        check_sae_spec(*canonical_saes("google/gemma-2-2b", (6,), WIDTHS["1m"]))


def test_a_model_without_known_sae_asks_for_one() -> None:
    with pytest.raises(SettingsError, match="'gpt2'") as caught:
        canonical_saes("gpt2", (31,), 16384)

    assert "--sae=" in caught.value.hint


PUBLISHED = {
    "google/gemma-2-9b-it": (31, "16k"),
    "google/gemma-2-9b": (31, "16k"),
    "google/gemma-2-2b": (25, "16k"),
    "google/gemma-2-27b": (22, "131k"),
}


@pytest.mark.parametrize("model", CANONICAL_RELEASES)
def test_the_canonical_releases_are_known_to_saelens(model: str) -> None:
    layer, width = PUBLISHED[model]

    check_sae_spec(*canonical_saes(model, (layer,), WIDTHS[width]))
