"""A width goes by the names that its publishers give it."""

from __future__ import annotations

import pytest

from atp.config.sae_choice import features_of, sae_width, width_name


@pytest.mark.parametrize(
    ("name", "features"),
    [
        *(("4k", 2**12), ("16k", 2**14), ("32k", 2**15), ("65k", 2**16), ("131k", 2**17)),
        *(("262k", 2**18), ("524k", 2**19), ("1m", 2**20), ("24k", 24576), ("49k", 49152)),
        *(("80k", 81920), ("45000", 45000)),
    ],
)
def test_a_width_has_one_short_name(name: str, features: int) -> None:
    assert sae_width("--sae-width", name) == sae_width("--sae-width", str(features)) == features
    assert width_name(features) == name


@pytest.mark.parametrize(
    ("name", "features"), [("64k", 2**16), ("128k", 2**17), ("1M", 2**20), ("5m", 5 << 20)]
)
def test_multiples_of_1024_are_read_too(name: str, features: int) -> None:
    assert features_of(name) == features


def test_the_short_name_of_any_width_means_that_width() -> None:
    for features in (*range(1, 3000), *range(1024, 300 * 1024, 1024)):
        assert features_of(width_name(features)) == features
