"""What earlier runs on the same input have saved in the output folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atp.dataset.journal import SUFFIX, Journal

if TYPE_CHECKING:
    from pathlib import Path


def earlier_runs(folder: Path, sha256: str) -> list[dict[str, Any]]:
    """Return the journals of an input, oldest first, as JSON values; changes none.

    A journal whose first line is damaged is listed, too: nobody knows whose it is.
    """
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            contents = Journal.inspect(path)
        except OSError as error:
            found.append({"journal": str(path), "unreadable": error.strerror or str(error)})
            continue
        header = contents.header
        facts = (header or {}).get("facts", {})
        if header is not None and facts.get("input", {}).get("sha256") != sha256:
            continue
        found.append(
            {
                "journal": str(path),
                "model": facts.get("model", {}).get("name"),
                "shard": facts.get("settings", {}).get("shard"),
                "started": (header or {}).get("started"),
                "ended": contents.ended,
                "pairs": len(contents.offsets),
                "failed": len(contents.failed),
                "header_damaged": header is None,
                "damaged_lines": [damage.line for damage in contents.damaged],
                "torn_bytes": contents.torn,
            }
        )
    return found
