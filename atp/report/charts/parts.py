"""What the charts share: the look, texts made of the fields, tooltips, lines of reference."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Json: TypeAlias = dict[str, Any]
Texts: TypeAlias = "Mapping[str, str]"

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
INK, SOFT, LINE = "var(--ink)", "var(--soft)", "var(--line)"
PROMOTES, SUPPRESSES, GROUND = "var(--promotes)", "var(--suppresses)", "var(--ground)"
DIGITS = ".4~g"
DASH = "\u2013"
LABEL_LENGTH = 80  # characters of a label that reach the picture; the axis cuts further
PLACE = "(containerSize()[0] || 340)"  # the width for a chart; without a page, of a figure
SCATTER_HEIGHT = 320
ERRORS_ONLY = 1  # of Vega's levels
ROW_HEIGHT = 24
# Line feeds, and the marks that change the direction of the text after them.
UNWANTED = "[\\\\u0000-\\\\u001f\\\\u007f-\\\\u009f\\\\u2028-\\\\u202e\\\\u2066-\\\\u2069]"
ZERO_LINE = {  # the grid line at 0 is stronger than the others
    "gridColor": {"condition": {"test": "datum.value === 0", "value": INK}, "value": LINE},
    "gridWidth": {"condition": {"test": "datum.value === 0", "value": 1.2}, "value": 0.7},
    "tickCount": {"expr": "max(3, min(9, width / 50))"},
}
LINK: Json = {"condition": {"test": "isValid(datum.href)", "field": "href"}}
"""The encoding `href` of a row that has an address; others link to nothing."""


def chart(description: str, height: float | Json, **content: object) -> Json:
    """Return a specification as wide as its place in the page."""
    return {
        "$schema": SCHEMA,
        "description": description,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": {"left": 4, "top": 4, "right": 14, "bottom": 4},  # half a number at the right
        "background": "transparent",
        "data": {"name": "table"},
        # A chart without an interval or an effect is no fault, and no line for the console.
        "usermeta": {"embedOptions": {"logLevel": ERRORS_ONLY}},
        **content,
        "config": {
            "font": "system-ui, sans-serif",
            "view": {"stroke": None},
            # Vega describes axes in English alone; the table beside a chart has the numbers.
            "axis": {
                "aria": False,
                "domainColor": LINE,
                "gridColor": LINE,
                "gridWidth": 0.7,
                "labelFlush": False,
                "labelSeparation": 4,
                "labelColor": INK,
                "labelFontSize": 12,
                "tickColor": LINE,
                "titleColor": INK,
                "titleFontSize": 12,
                "titleFontWeight": "normal",
                "titlePadding": 8,
            },
            "legend": {
                "aria": False,
                "labelColor": INK,
                "labelFontSize": 12,
                "labelLimit": 240,
                "columns": {"expr": f"{PLACE} < 330 ? 1 : 3"},
                "orient": "top",
                "title": None,
                "titleColor": INK,
                "titleFontSize": 12,
                "titleFontWeight": "normal",
            },
        },
    }


def row_heights(height: float = ROW_HEIGHT) -> Json:
    """Return the parameter that makes a chart as high as its rows.

    Vega-Lite's own way, `{"step": 24}`, warns in the console where the width is the container's.
    """
    return {"name": "height", "expr": f"{height} * max(1, length(data('table')))"}


def value(text: str) -> str:
    """Return a text as a constant of an expression."""
    return json.dumps(text)


def calculate(name: str, expression: str) -> Json:
    """Return the transform that adds a field."""
    return {"calculate": expression, "as": name}


def number(field: str) -> Json:
    """Return the transform that adds `<field>_text`: the number in 4 digits, or a dash."""
    shown = f"isValid(datum.{field}) ? format(datum.{field}, '{DIGITS}') : '{DASH}'"
    return calculate(f"{field}_text", shown)


def interval(low: str, high: str, texts: Texts) -> Json:
    """Return the transform that adds `interval_text`: both limits, or a dash."""
    before, between, after = (
        value(part) for part in texts["to"].replace("{high}", "{low}").split("{low}")
    )
    limits = (f"format(datum.{field}, '{DIGITS}')" for field in (low, high))
    shown = f" + {between} + ".join(limits)
    known = f"isValid(datum.{low}) && isValid(datum.{high})"
    return calculate("interval_text", f"{known} ? {before} + {shown} + {after} : '{DASH}'")


def shortened(field: str) -> str:
    """Return the expression for a text of the data, cut and without what would break a line."""
    return f"replace(truncate('' + datum.{field}, {LABEL_LENGTH}), regexp('{UNWANTED}', 'g'), ' ')"


def names(texts: Texts) -> list[Json]:
    """Return the transforms that add `name`, the id and the label, and `label_text`."""
    known = "isValid(datum.label) && datum.label !== ''"
    return [
        calculate("label_text", f"{known} ? {shortened('label')} : '{DASH}'"),
        calculate("name", f"datum.feature + ({known} ? '  ' + datum.label_text : '')"),
        calculate("said", f"{value(texts['feature'] + ' ')} + datum.name"),
    ]


def tooltip(texts: Texts, fields: Mapping[str, str]) -> list[Json]:
    """Return the encoding `tooltip`: fields by the key of their names."""
    return [
        {"field": field, "title": texts[key], "type": "nominal"} for key, field in fields.items()
    ]


def rows_axis(*, sort: Json | Sequence[str], field: str = "name", label: str = "") -> Json:
    """Return the encoding `y` of a chart with a row for each thing; names are cut to the width."""
    axis: Json = {
        "title": None,
        "domain": False,
        "ticks": False,
        "labelPadding": 6,
        "labelLimit": {"expr": f"max(96, min(320, 0.36 * {PLACE}))"},
    }
    if label:
        axis["labelExpr"] = label
    return {"field": field, "type": "nominal", "sort": sort, "axis": axis}


def amount(field: str, title: str) -> Json:
    """Return the encoding `x` or `y` of a number, with a stronger line at 0."""
    axis = {**ZERO_LINE, "title": title}
    scale = {"zero": True, "padding": 6}  # a mark at the end of the scale stays off the labels
    return {"field": field, "type": "quantitative", "axis": axis, "scale": scale, "stack": None}


def by_sign(field: str) -> Json:
    """Return the encoding `color` by the sign of a field; its place says the same."""
    test = f"datum.{field} < 0"
    return {"condition": {"test": test, "value": SUPPRESSES}, "value": PROMOTES}


def limits(low: str, high: str) -> Json:
    """Return the layer of the intervals, for a chart with a row for each thing."""
    return {
        "mark": {"type": "rule", "color": INK, "strokeWidth": 1.5, "aria": False},
        "encoding": {"x": {"field": low, "type": "quantitative"}, "x2": {"field": high}},
    }


def two_kinds(field: str, kinds: Sequence[tuple[str, str, str]]) -> Json:
    """Return the encodings `color` and `shape` of some kinds: (name, colour, shape) of each."""
    domain, colours, shapes = (list(column) for column in zip(*kinds, strict=True))
    return {
        "color": {"field": field, "scale": {"domain": domain, "range": colours}, "title": None},
        "shape": {"field": field, "scale": {"domain": domain, "range": shapes}, "title": None},
    }


def diagonal(x: str, y: str) -> Json:
    """Return the layer of the line on which two fields are equal, over the range of both."""
    return {
        "transform": [
            {
                "aggregate": [
                    {"op": op, "field": field, "as": f"{op}_{field}"}
                    for field in (x, y)
                    for op in ("min", "max")
                ]
            },
            *(calculate(op, f"{op}(datum.{op}_{x}, datum.{op}_{y}, 0)") for op in ("min", "max")),
        ],
        "mark": {"type": "rule", "color": INK, "strokeDash": [5, 4], "aria": False},
        "encoding": {
            "x": {"field": "min", "type": "quantitative"},
            "x2": {"field": "max"},
            "y": {"field": "min", "type": "quantitative"},
            "y2": {"field": "max"},
        },
    }


def of_two_kinds(  # noqa: PLR0913  (keywords)
    texts: Texts,
    name: str,
    x: str,
    y: str,
    *,
    kinds: Sequence[tuple[str, str, str]],
    transform: Sequence[Json],
    shown: Mapping[str, str],
) -> Json:
    """Return points of two fields beside the line on which they are equal; `state` has the kind."""
    points = {
        "mark": {"type": "point", "filled": True, "size": 36, "aria": False},
        "encoding": {
            "x": amount(x, texts[x]),
            "y": amount(y, texts[y]),
            **two_kinds("state", kinds),
            "tooltip": tooltip(texts, shown),
            "href": LINK,
        },
    }
    return chart(
        texts[name],
        SCATTER_HEIGHT,
        transform=[number(x), number(y), *transform],
        layer=[diagonal(x, y), points],
    )
