"""The charts whose marks are features, or what one feature does over the pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atp.report.charts.parts import (
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
    interval,
    limits,
    names,
    number,
    of_two_kinds,
    row_heights,
    rows_axis,
    shortened,
    tooltip,
    two_kinds,
    value,
)

if TYPE_CHECKING:
    from atp.report.charts.parts import Json, Texts

LOW, HIGH = "mean_best_low", "mean_best_high"
GROUPS = {"all": "circle", "template_type": "square", "dataset": "triangle-up"}
HISTOGRAM_HEIGHT, MOST_BINS = 180, 40
STRONGEST_FIRST = {"field": "mean_best", "op": "max", "order": "descending"}


def strongest(texts: Texts) -> Json:
    """Return bars of the means, the most positive on top, with their intervals."""
    shown = {"feature": "feature", "label": "label_text", "mean": "mean_best_text"}
    return chart(
        texts["strongest"],
        ROW_HEIGHT,
        params=[row_heights()],
        transform=[*names(texts), number("mean_best"), interval(LOW, HIGH, texts)],
        encoding={"y": rows_axis(sort=STRONGEST_FIRST)},
        layer=[
            {
                "mark": {  # the interval is seen on it, in light and in dark
                    "type": "bar",
                    "height": {"band": 0.68},
                    "opacity": 0.75,
                },
                "encoding": {
                    "x": amount("mean_best", texts["mean"]),
                    "color": by_sign("mean_best"),
                    "tooltip": tooltip(texts, shown | {"interval": "interval_text"}),
                    "description": {"field": "said"},
                    "href": LINK,
                },
            },
            limits(LOW, HIGH),
        ],
    )


def ratio(texts: Texts) -> Json:
    """Return points of mean and activation ratio; the params are the thresholds, null for none."""
    parts = ((name, f"datum.{field}") for name, field in THRESHOLDS.items())
    passes = " && ".join(f"(!isValid({name}) || {field} > {name})" for name, field in parts)
    shown = {
        "feature": "feature",
        "label": "label_text",
        "mean": "mean_best_text",
        "log_ratio": "log_ratio_text",
        "in_selection": "selected_text",
    }
    kinds = [(texts["above"], PROMOTES, "diamond"), (texts["below"], SOFT, "circle")]
    yes, no, above, below = (value(texts[key]) for key in ("yes", "no", "above", "below"))
    return chart(
        texts["ratio"],
        SCATTER_HEIGHT,
        params=[{"name": "min_score", "value": 0}, {"name": "min_log_ratio", "value": 0.5}],
        transform=[
            *names(texts),
            *map(number, THRESHOLDS.values()),
            calculate("selected_text", f"datum.selected ? {yes} : {no}"),
            calculate("state", f"{passes} ? {above} : {below}"),
        ],
        layer=[
            {
                "mark": {"type": "point", "filled": True, "aria": False},
                "encoding": {
                    "x": amount("log_ratio", texts["log_ratio"]),
                    "y": amount("mean_best", texts["mean"]),
                    "size": {
                        "condition": {"test": f"datum.state === {above}", "value": 60},
                        "value": 22,
                    },
                    **two_kinds("state", kinds),
                    "tooltip": tooltip(texts, shown),
                    "href": LINK,
                },
            },
            _threshold("y", "min_score"),
            _threshold("x", "min_log_ratio"),
        ],
    )


THRESHOLDS = {"min_score": "mean_best", "min_log_ratio": "log_ratio"}


def _threshold(axis: str, name: str) -> Json:
    known = f"isValid({name})"
    return {
        "data": {"values": [{}]},
        "transform": [calculate("at", f"{known} ? {name} : 0")],
        "mark": {"type": "rule", "color": INK, "strokeDash": [5, 4], "aria": False},
        "encoding": {
            axis: {"field": "at", "type": "quantitative"},
            "opacity": {"condition": {"test": known, "value": 1}, "value": 0},
        },
    }


def distribution(texts: Texts) -> Json:
    """Return the histogram of a feature's effect, else score, over pairs."""
    binned: Json = {"bin": "binned", "scale": {}}  # an interval ends where the next begins
    encoding: Json = {
        "x": amount("low", texts["best"]) | binned,
        "x2": {"field": "high"},
        "y": {
            "field": "pairs",
            "type": "quantitative",
            "axis": {"title": texts["count"], "tickMinStep": 1, "format": "d"},
        },
        "color": by_sign("low"),
        "tooltip": tooltip(texts, {"values": "interval_text", "count": "pairs"}),
        "description": {"field": "interval_text"},
    }
    return chart(
        texts["distribution"],
        HISTOGRAM_HEIGHT,
        transform=[
            {"filter": "isValid(datum.best)"},
            {"bin": {"maxbins": MOST_BINS}, "field": "best", "as": ["low", "high"]},
            {"aggregate": [{"op": "count", "as": "pairs"}], "groupby": ["low", "high"]},
            interval("low", "high", texts),
        ],
        mark={"type": "bar", "binSpacing": 1},
        encoding=encoding,
    )


def groups(texts: Texts) -> Json:
    """Return a point and its interval for all pairs, each template and each dataset."""
    name = f"isValid(datum.value) && datum.value !== '' ? {shortened('value')}"
    of_group = "".join(f"datum.group === '{key}' ? {value(texts[key])} : " for key in GROUPS)
    kinds = [(texts[key], INK, shape) for key, shape in GROUPS.items()]
    shown = {"group": "said", "mean": "mean_best_text"}
    shown |= {"interval": "interval_text", "count": "pairs"}
    return chart(
        texts["groups"],
        ROW_HEIGHT,
        params=[row_heights()],
        transform=[
            calculate("rank", f"indexof({list(GROUPS)}, datum.group)"),
            calculate("group_text", f"{of_group} datum.group"),
            calculate(
                "name",
                f"datum.group === 'all' ? {value(texts['all'])} : "
                f"{name} : {value(texts['no_value'])}",
            ),
            {
                "window": [{"op": "row_number", "as": "row"}],
                "sort": [{"field": "rank"}, {"field": "mean_best", "order": "descending"}],
            },
            calculate("key", "datum.row + ':' + datum.name"),
            calculate(
                "said",
                "datum.group === 'all' ? datum.name : datum.group_text + ': ' + datum.name",
            ),
            number("mean_best"),
            interval(LOW, HIGH, texts),
        ],
        encoding={
            "y": rows_axis(
                field="key",
                sort={"field": "row", "op": "min"},
                label="slice(datum.label, indexof(datum.label, ':') + 1)",
            )
        },
        layer=[
            limits(LOW, HIGH),
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                "encoding": {
                    "x": amount("mean_best", texts["mean"]),
                    "shape": two_kinds("group_text", kinds)["shape"],
                    "color": by_sign("mean_best"),
                    "tooltip": tooltip(texts, shown),
                    "description": {"field": "said"},
                    "href": LINK,
                },
            },
        ],
    )


def compare(texts: Texts) -> Json:
    """Return points of a feature's mean in two results."""
    kinds = [(texts["same"], PROMOTES, "circle"), (texts["opposite"], INK, "cross")]
    same, opposite = (value(texts[key]) for key in ("same", "opposite"))
    shown = {"feature": "feature", "label": "label_text"}
    shown |= {"mean_a": "mean_a_text", "mean_b": "mean_b_text"}
    state = calculate("state", f"datum.mean_a * datum.mean_b < 0 ? {opposite} : {same}")
    transform = [*names(texts), state]
    return of_two_kinds(
        texts, "compare", "mean_a", "mean_b", kinds=kinds, transform=transform, shown=shown
    )
