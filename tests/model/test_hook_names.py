"""A hook point's name tells its layer, and whether that layer is complete when it fires."""

from __future__ import annotations

import pytest

from atp.model.hook_names import layer_of, layers_before


@pytest.mark.parametrize(
    ("name", "layer", "before"),
    [
        ("blocks.0.hook_resid_pre", 0, 0),
        ("blocks.3.hook_resid_post", 3, 4),
        ("blocks.3.hook_out", 3, 4),
        ("blocks.12.attn.hook_out", 12, 12),
        ("blocks.12.hook_mlp_out", 12, 12),
        ("embed.hook_out", None, 0),
        ("hook_resid_post", None, 0),
    ],
)
def test_a_hook_point_has_its_layer_in_its_name(name: str, layer: int | None, before: int) -> None:
    assert (layer_of(name), layers_before(name)) == (layer, before)
