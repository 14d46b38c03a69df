"""The charts whose marks are pairs, a feature in a pair, or what an intervention does to pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atp.report.charts.parts import (
    DASH,
    GROUND,
    INK,
    LINK,
    PROMOTES,
    ROW_HEIGHT,
    SCATTER_HEIGHT,
    SOFT,
    amount,
    by_sign,
    calculate,
    chart,
    diagonal,
    interval,
    limits,
    names,
    number,
    of_two_kinds,
    row_heights,
    rows_axis,
    tooltip,
    two_kinds,
    value,
)

if TYPE_CHECKING:
    from atp.report.charts.parts import Json, Texts

SETS = ("selected", "random", "negative")


def agreement(texts: Texts) -> Json:
    """Return points of score and effect; the estimate is exact on the diagonal."""
    fields = ("score", "effect", "relative_size")
    shown = {"pair": "pair", "feature": "feature"} | {field: f"{field}_text" for field in fields}
    size = {
        "condition": {
            "test": "isValid(datum.relative_size)",
            "field": "relative_size",
            "type": "quantitative",
            "scale": {"scheme": "viridis"},
            "legend": {"title": texts["relative_size"], "gradientLength": 140},
        },
        "value": SOFT,
    }
    return chart(
        texts["agreement"],
        SCATTER_HEIGHT,
        transform=[
            {"filter": "isValid(datum.score) && isValid(datum.effect)"},
            *map(number, fields),
        ],
        layer=[
            diagonal("score", "effect"),
            {
                "mark": {
                    "type": "point",
                    "invalid": None,  # else a point without a relative size is left out
                    "size": 30,
                    "stroke": INK,
                    "strokeWidth": 0.4,
                    "opacity": 0.85,
                    "aria": False,
                },
                "encoding": {
                    "x": amount("score", texts["score"]),
                    "y": amount("effect", texts["effect"]),
                    "fill": size,
                    "tooltip": tooltip(texts, shown),
                    "href": LINK,
                },
            },
        ],
    )


def pair(texts: Texts) -> Json:
    """Return a bar for each feature's score, and a diamond for its effect where there is one."""
    fields = ("score", "effect", "relative_size")
    shown = {"feature": "feature", "label": "label_text"}
    shown |= {field: f"{field}_text" for field in fields}
    common: Json = {
        "tooltip": tooltip(texts, shown),
        "description": {"field": "said"},
        "href": LINK,
    }
    known = "isValid(datum.effect)"
    return chart(
        texts["pair_bars"],
        ROW_HEIGHT,
        params=[row_heights()],
        transform=[
            *names(texts),
            *map(number, fields),
            calculate("kind", value(texts["effect"])),
        ],
        encoding={"y": rows_axis(sort={"field": "score", "op": "max", "order": "descending"})},
        layer=[
            {
                "mark": {"type": "bar", "height": {"band": 0.68}},
                "encoding": common
                | {
                    "x": amount("score", texts["score"]),
                    "color": by_sign("score"),
                },
            },
            {
                "transform": [{"filter": known}],
                "mark": {
                    "type": "point",
                    "size": 80,
                    "fill": GROUND,
                    "stroke": INK,
                    "strokeWidth": 1.5,
                    "opacity": 1,
                    "aria": False,  # an empty layer would be a picture without a name
                },
                "encoding": common
                | {
                    "x": amount("effect", texts["score"]),
                    "shape": two_kinds("kind", [(texts["effect"], INK, "diamond")])["shape"],
                },
            },
        ],
    )


def intervention(texts: Texts) -> Json:
    """Return the mean change and its interval for each set of features that was taken out."""
    named = "".join(f"datum.set === '{name}' ? {value(texts[name])} : " for name in SETS)
    shown = {"set": "name", "change": "mean_change_text", "interval": "interval_text"}
    return chart(
        texts["intervention"],
        ROW_HEIGHT,
        params=[row_heights(1.5 * ROW_HEIGHT)],
        transform=[
            calculate("name", f"{named} '' + datum.set"),
            number("mean_change"),
            interval("low", "high", texts),
        ],
        encoding={"y": rows_axis(sort=[texts[name] for name in SETS])},
        layer=[
            limits("low", "high"),
            {
                "mark": {"type": "point", "size": 90, "stroke": INK, "opacity": 1},
                "encoding": {
                    "x": amount("mean_change", texts["change"]),
                    "fill": {  # the others are controls
                        "condition": {"test": "datum.set === 'selected'", "value": INK},
                        "value": GROUND,
                    },
                    "tooltip": tooltip(texts, shown),
                    "description": {"field": "name"},
                },
            },
        ],
    )


def before_after(texts: Texts) -> Json:
    """Return points of the metric with and without the features, and mark the flips."""
    kinds = [(texts["keeps"], PROMOTES, "circle"), (texts["flips"], INK, "cross")]
    flips, keeps = (value(texts[key]) for key in ("flips", "keeps"))
    shown = {"pair": "pair_text", "before": "before_text", "after": "after_text"}
    pair_text = calculate("pair_text", f"isValid(datum.pair) ? '' + datum.pair : '{DASH}'")
    transform = [pair_text, calculate("state", f"datum.flips ? {flips} : {keeps}")]
    return of_two_kinds(
        texts, "before_after", "before", "after", kinds=kinds, transform=transform, shown=shown
    )
