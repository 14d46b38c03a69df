"""Which dictionaries atp does not score, as far as names tell before anything is downloaded."""

from __future__ import annotations

from atp.model.dictionaries.files import FILES

TEMPORAL = "temporal"
"""An architecture of SAELens, and the name of its loader."""
UNSUITED = {TEMPORAL: "a temporal SAE, which reads the whole sequence and not one position"}
MALFORMED = "malformed in SAELens' list: its entry holds another release, or lacks its path"


def refusal(loader: str, *, malformed: bool = False) -> str | None:
    """Return why atp does not score a listed dictionary, to follow "it is"; None if it does."""
    if loader in UNSUITED:
        return UNSUITED[loader]
    if malformed:
        return MALFORMED
    return None if loader in FILES else f"in a format that atp does not know ({loader})"
