"""The charts, as Vega-Lite specifications. The rows come later, as the data set `table`.

`parts` holds what they share: the look, the texts in tooltips, the lines for zero and equality.
Colours are CSS variables of the page, which `figures` replaces. A field may be missing or null in
any row: then the row lacks that mark, and its tooltip shows a dash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from atp.report.charts.of_features import compare, distribution, groups, ratio, strongest
from atp.report.charts.of_pairs import agreement, before_after, intervention, pair
from atp.report.texts import texts_in

if TYPE_CHECKING:
    from atp.report.charts.parts import Json

PREFIX = "charts."
CHARTS = {
    "strongest": strongest,
    "ratio": ratio,
    "agreement": agreement,
    "distribution": distribution,
    "groups": groups,
    "pair": pair,
    "intervention": intervention,
    "before_after": before_after,
    "compare": compare,
}


def specifications(language: str) -> dict[str, Json]:
    """Return the Vega-Lite specification of each chart, with its texts in a language."""
    texts = {
        key.removeprefix(PREFIX): text
        for key, text in texts_in(language).items()
        if key.startswith(PREFIX)
    }
    return {name: chart(texts) for name, chart in CHARTS.items()}
