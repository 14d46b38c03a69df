"""The releases of Gemma Scope, of which --hook-layer and --sae-width name SAEs."""

from __future__ import annotations

from atp.config.checks import valid
from atp.errors import SettingsError

CANONICAL_RELEASES = {  # by model
    "google/gemma-2-9b-it": "gemma-scope-9b-it-res-canonical",
    "google/gemma-2-9b": "gemma-scope-9b-pt-res-canonical",
    "google/gemma-2-2b": "gemma-scope-2b-pt-res-canonical",
    "google/gemma-2-27b": "gemma-scope-27b-pt-res-canonical",
}
# Features of an SAE, by the name of its width: thousands, not multiples of 1024.
NAMES = ("16k", "32k", "65k", "131k", "262k", "524k", "1m")
WIDTHS = {name: 2**power for power, name in enumerate(NAMES, start=14)}
sae_width = valid(
    "a number of features such as 16384 (or 16k)",
    lambda given: WIDTHS.get(given.strip().lower()) or int(given),
    lambda width: width in WIDTHS.values(),
    lambda _: f"Gemma Scope has {', '.join(WIDTHS)}.",
)


def canonical_saes(model: str, layers: tuple[int, ...], width: int) -> tuple[str, ...]:
    """Return the canonical SAEs of a model, one for each layer."""
    if (release := CANONICAL_RELEASES.get(model)) is None:
        msg = f"no SAE is known for the model {model!r}."
        raise SettingsError(msg, "Name one with --sae=RELEASE:SAE_ID or --sae=FOLDER.")
    name = next(name for name, features in WIDTHS.items() if features == width)
    return tuple(f"{release}:layer_{layer}/width_{name}/canonical" for layer in layers)
