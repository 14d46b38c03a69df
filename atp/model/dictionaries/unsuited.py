"""Kinds of SAEs for which the score of one position is not defined: atp refuses them."""

from __future__ import annotations

from atp.errors import SettingsError

UNSUITED = {
    "transcoder": "a transcoder, which does not reconstruct its own input",
    "temporal": "a temporal SAE, which reads the whole sequence and not one position",
}
"""By a part of their architecture's name in SAELens."""


def refuse_unsuited(sae: str, *descriptions: str | None) -> None:
    """Raise SettingsError if the name of an SAE's architecture, loader or file is unsuited."""
    for kind, reason in UNSUITED.items():
        if any(kind in description for description in descriptions if description):
            msg = f"{sae} is {reason}."
            hint = "Choose an SAE of the residual stream, an MLP or attention output."
            raise SettingsError(msg, hint)
