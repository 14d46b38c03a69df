"""The settings of `atp report`, and the one that asks a run for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from atp.config import checks
from atp.config.option import Group, option, switch

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class ReportSettings:
    """What a report shows."""

    report: bool = switch(Group.SHOW)
    """Write the report of the run beside its results, as atp report does, and list it in
    index.html of that folder."""
    labels: Path | None = option(Group.REPORT, None, "FILE", checks.path)
    """What features stand for: JSON, {"515": "text"}; CSV with the columns feature and label; or
    explanations that Neuronpedia exported."""
    figures: Path | None = option(Group.REPORT, None, "DIR", checks.path)
    """Also write each picture as SVG and PNG, in a style for print, and the table behind it as
    CSV."""
