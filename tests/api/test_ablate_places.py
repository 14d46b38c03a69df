"""`ablate` refuses a dictionary whose places the model lacks: it would do nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tiny

from atp import ablate
from atp.errors import SettingsError
from atp.model.dictionaries.loading import Dictionary
from atp.model.language_model import Model


@pytest.mark.parametrize(
    ("reads", "writes", "said"),
    [
        ("blocks.1.hook_mlp_in", "blocks.1.hook_mlp_out", "fired 0 times"),
        ("blocks.1.mlp.hook_in", "blocks.1.hook_mlp_nowhere", "has no hook point"),
        ("blocks.1.hook_mlp_out", "blocks.1.mlp.hook_in", "comes before"),
        ("blocks.1.hook_mlp_in", "", "fired 0 times"),
    ],
)
def test_places_that_a_pass_does_not_meet_in_order_are_refused(
    loaded: Callable[[str], Model], reads: str, writes: str, said: str
) -> None:
    """The bridge lists hook_mlp_in, and does not fire it by default."""
    sae = tiny.make_sae("transcoder" if writes else "standard")
    sae.cfg.metadata.hook_name = reads
    if writes:
        sae.cfg.metadata.hook_name_out = writes
    with (
        pytest.raises(SettingsError, match=said),
        ablate(loaded("llama"), Dictionary.of("memory", "tiny", sae, {}), [1]),
    ):
        pass
