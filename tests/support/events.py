"""The events of the log, as the table in docs/logs.md has them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ON_EVERY_LINE = {"event", "level", "timestamp", "run_id"}
ON_ANY_LINE = {"worker"}
ROW = re.compile(r"^\| `([a-z_.]+)` \| (info|warning|error) \| (.+) \| (.+) \|$", re.MULTILINE)
FIELD = re.compile(r"(?:^|; )`([a-z_0-9]+)`( \(not always\))?(?=:|;|$)")


@dataclass(frozen=True)
class Event:
    """One row of the table."""

    level: str
    fields: frozenset[str]
    optional: frozenset[str]
    """Fields that are not on every line."""


def read_events() -> dict[str, Event]:
    """Return the rows of the table, by the name of the event."""
    text = (Path(__file__).parents[2] / "docs" / "logs.md").read_text(encoding="utf-8")
    events = {}
    for name, level, _, fields in ROW.findall(text):
        found = FIELD.findall(fields)
        names = frozenset(field for field, _ in found)
        events[name] = Event(level, names, frozenset(field for field, rare in found if rare))
    return events


EVENTS = read_events()
