"""Figures for papers: each chart as SVG and PNG, one column wide, and its table as CSV.

The library draws in process: it needs no browser, no network and no font beyond the system's.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, TypeAlias

from atp.dataset.atomic import HINT, not_written, write_files
from atp.report.charts import CHARTS, specifications

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

WIDTH_MM, PPI = 85, 300  # a column of a paper
DRAWN_WIDTH = 340  # pixels: letters of 12 pixels become 8.5 points
LONGEST = 200  # characters of a text that reach the drawing
LONGEST_NAME = 200  # characters: with an ending, no file system refuses them
MM_PER_INCH, POINTS_PER_INCH = 25.4, 72
PRINT = {
    "currentColor": "#000000",
    "var(--ink)": "#000000",
    "var(--soft)": "#8c8c8c",
    "var(--line)": "#d9d9d9",
    "var(--ground)": "#ffffff",
    "var(--promotes)": "#0072b2",
    "var(--suppresses)": "#d55e00",
    "transparent": "#ffffff",
    "system-ui, sans-serif": "Arial, Helvetica, Liberation Sans, sans-serif",
}
"""What stands in print for the CSS variables and the fonts of the page."""

Params: TypeAlias = "Mapping[str, float | None]"


def write(
    folder: Path, charts: Mapping[str, pd.DataFrame], params: Params | None = None
) -> list[Path]:
    """Write SVG, PNG and CSV of each chart, and return their paths.

    A chart is named by what it shows, as in `layer20-2048_strongest`. Nothing is written unless
    every chart can be drawn.

    Args:
        folder: where to; it is made if it is missing.
        charts: the rows of each chart, with the fields of its specification as columns.
        params: values of the charts' parameters: `min_score`, `min_log_ratio`.

    Raises:
        SaveError: the folder or a file cannot be written.
    """
    contents = {}
    for name, table in charts.items():
        svg = as_svg(_chart_of(name), table, PRINT, params)
        contents[name] = {
            "svg": _in_millimetres(svg).encode(),
            "png": _as_png(svg),
            "csv": table.to_csv(index=False, lineterminator="\n").encode(),
        }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_written(folder, error, hint=HINT) from error
    return [
        path
        for name, files in contents.items()
        for path in write_files(folder, _plain(name), files)
    ]


def _plain(name: str) -> str:
    """Return the name of a picture as a file name: the hook point in it is of the result's file."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[-LONGEST_NAME:].lstrip(".-")


def as_svg(
    chart: str,
    table: pd.DataFrame,
    style: Mapping[str, str],
    params: Params | None = None,
    width: int = DRAWN_WIDTH,
) -> str:
    """Return a chart as SVG, its colours replaced by a style; the width is in pixels."""
    import vl_convert  # noqa: PLC0415  (starts an engine: only for those who draw)

    specification = json.loads(_replaced(json.dumps(specifications("en")[chart]), style))
    given = params or {}
    for param in specification.get("params", ()):
        if param["name"] in given:
            param["value"] = given[param["name"]]
    specification["width"] = width
    specification["datasets"] = {"table": _rows(table)}
    svg: str = vl_convert.vegalite_to_svg(specification, allowed_base_urls=[])
    return svg


def _as_png(svg: str) -> bytes:
    import vl_convert  # noqa: PLC0415  (as above)

    scale = WIDTH_MM / MM_PER_INCH * POINTS_PER_INCH / DRAWN_WIDTH
    png: bytes = vl_convert.svg_to_png(svg, scale=scale, ppi=PPI)
    return png


def _in_millimetres(svg: str) -> str:
    """Return an SVG with the width of a column: pixels have no size on paper."""
    match = re.search(r'width="([\d.]+)" height="([\d.]+)"', svg)
    if match is None:
        msg = "the library's SVG has no size"
        raise ValueError(msg)
    height = WIDTH_MM * float(match[2]) / float(match[1])
    size = f'width="{WIDTH_MM}mm" height="{height:.2f}mm"'
    return f"{svg[: match.start()]}{size}{svg[match.end() :]}"


def _chart_of(name: str) -> str:
    charts = [chart for chart in CHARTS if f"_{name}".endswith(f"_{chart}")]
    if not charts:
        msg = f"no chart is named at the end of {name!r}"
        raise ValueError(msg)
    return max(charts, key=len)


def _replaced(text: str, style: Mapping[str, str]) -> str:
    for page, printed in style.items():
        text = text.replace(page, printed)
    return text


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows with texts that are short and fit into XML, and null for what is missing."""
    rows: list[dict[str, Any]] = json.loads(
        table.drop(columns="href", errors="ignore").to_json(orient="records", double_precision=15)
    )
    return [
        {name: _short(value) if isinstance(value, str) else value for name, value in row.items()}
        for row in rows
    ]


def _short(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text[:LONGEST])
