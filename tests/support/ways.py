"""The ways to score that a run offers, as options of the command."""

from __future__ import annotations

import pytest
from tiers import first_tier

WAYS = {
    "exact": ["--exact=all", "--top-k=5"],
    "flagged": ["--exact=flagged", "--exact-above=0.3", "--top-k=5"],
    "ig": ["--method=ig", "--ig-steps=3", "--exact=all", "--top-k=5"],
    "mean": ["--baseline=mean", "--prompt-activations"],
    "base": ["--baseline=base", "--exact=all", "--top-k=3"],
    "ig from base": ["--method=ig", "--ig-steps=2", "--baseline=base"],
    "tail": ["--position=tail", "--exact=all", "--top-k=3"],
    "all": ["--position=all", "--prompt-activations", "--top-k=5"],
    "sequence": ["--metric=sequence", "--sequence-tokens=3", "--exact=all", "--top-k=3"],
    "sequence, ig, all": ["--metric=sequence", "--method=ig", "--ig-steps=2", "--position=all"],
}
"""By what is other than by default."""

every_way = pytest.mark.parametrize("way", first_tier(["base", "sequence, ig, all"], WAYS))
"""Runs a test once for each way; two that have every kind of pass between them come first."""
