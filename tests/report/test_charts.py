"""The charts: each compiles, and draws a mark for every row that has the numbers for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import vl_convert

from atp.report.charts import CHARTS, specifications
from atp.report.texts import LANGUAGES

Rows = list[dict[str, Any]]
FEATURE = {"feature": 515, "label": "agreement", "mean_best": 0.1}
LIMITS = {"mean_best_low": 0.05, "mean_best_high": 0.2}
ROWS: dict[str, Rows] = {
    "strongest": [FEATURE | LIMITS, {"feature": "7", "mean_best": -0.2, "label": None}],
    "ratio": [
        {"feature": 1, "mean_best": 0.1, "log_ratio": 0.7, "selected": 1},
        {"feature": 2, "mean_best": 0.1, "log_ratio": 0.2, "selected": 0},
        {"feature": 3, "mean_best": -0.1, "log_ratio": 0.9},
    ],
    "agreement": [
        {"pair": 3, "feature": 1, "score": 0.2, "effect": 0.1, "relative_size": 0.3},
        {"pair": 4, "feature": 1, "score": -0.2, "effect": -0.3, "relative_size": None},
    ],
    "distribution": [{"best": 0.1}, {"best": 0.9}, {"best": -0.4}],
    "groups": [
        {"group": "all", "value": None, "pairs": 3, "mean_best": 0.1} | LIMITS,
        {"group": "template_type", "value": "twice", "pairs": 2, "mean_best": -0.1},
        {"group": "dataset", "value": "twice", "pairs": 2, "mean_best": 0.1} | LIMITS,
        {"group": "dataset", "value": None, "pairs": 1, "mean_best": 0.3},
    ],
    "pair": [
        {"feature": 1, "label": "", "score": 0.2, "effect": 0.3, "relative_size": 0.1},
        {"feature": 2, "label": "x", "score": -0.2},
    ],
    "intervention": [
        {"set": "selected", "mean_change": -0.4, "low": -0.5, "high": -0.3},
        {"set": "negative", "mean_change": 0.2, "low": None, "high": None},
    ],
    "before_after": [
        {"before": 0.4, "after": 0.3, "flips": 0},
        {"before": 0.4, "after": -0.3, "flips": 1},
    ],
    "compare": [
        {"feature": 1, "mean_a": 0.1, "mean_b": 0.2},
        {"feature": 2, "mean_a": -0.1, "mean_b": 0.2},
    ],
}
NUMBERS = {  # without these, a row has no mark
    "strongest": ["mean_best"],
    "ratio": ["mean_best", "log_ratio"],
    "agreement": ["score", "effect"],
    "distribution": ["best"],
    "groups": ["mean_best"],
    "pair": ["score", "effect"],
    "intervention": ["mean_change"],
    "before_after": ["before", "after"],
    "compare": ["mean_a", "mean_b"],
}
MARKS = {"strongest": "rect", "distribution": "rect", "pair": "rect"}


def of(name: str, rows: Rows, language: str = "en", **params: object) -> dict[str, Any]:
    """Return the specification of a chart with its rows, as wide as a phone."""
    spec = specifications(language)[name]
    assert {param["name"] for param in spec.get("params", [])} >= params.keys()
    for param in spec.get("params", []):
        if param["name"] in params:
            param["value"] = params[param["name"]]
    return spec | {"width": 300, "datasets": {"table": rows}}


def marks(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (kind, item) of what a chart draws of its data."""

    def walk(node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        for item in node.get("items", []):
            if node.get("role") == "mark":
                yield node["marktype"], item
            yield from walk(item)

    yield from walk(vl_convert.vegalite_to_scenegraph(spec)["scenegraph"])


def kinds(spec: dict[str, Any]) -> list[str]:
    return [kind for kind, _ in marks(spec)]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_compiles_and_says_what_it_shows(
    name: str, language: str, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = specifications(language)[name]

    assert spec["data"] == {"name": "table"}
    assert spec["width"] == "container"
    compiled = vl_convert.vegalite_to_vega(spec, show_warnings=True)
    assert compiled["description"] == spec["description"]
    assert len(spec["description"]) > 10
    assert not capfd.readouterr().err


@pytest.mark.parametrize("name", CHARTS)
def test_every_row_has_its_mark(name: str) -> None:
    rows = ROWS[name]
    drawn = kinds(of(name, rows))

    assert drawn.count(MARKS.get(name, "symbol")) == len(rows)


@pytest.mark.parametrize("name", CHARTS)
def test_a_row_without_numbers_has_no_mark_and_harms_no_other(name: str) -> None:
    first, *others = ROWS[name]
    numbers = NUMBERS[name]
    poor = [first | dict.fromkeys(numbers, missing) for missing in (None, float("nan"))]
    poor.append({field: value for field, value in first.items() if field not in numbers})
    drawn = kinds(of(name, [*poor, *others]))

    assert drawn.count(MARKS.get(name, "symbol")) == len(others)


@pytest.mark.parametrize("name", CHARTS)
def test_no_row_is_an_empty_chart(name: str) -> None:
    assert not {"rect", "symbol"} & set(kinds(of(name, [])))


@pytest.mark.parametrize("name", CHARTS)
def test_one_row_is_enough(name: str) -> None:
    assert MARKS.get(name, "symbol") in kinds(of(name, ROWS[name][:1]))


@pytest.mark.parametrize(("name", "limits"), [("strongest", 1), ("groups", 2), ("intervention", 1)])
def test_an_interval_is_drawn_where_it_is_known(name: str, limits: int) -> None:
    lines = [item for kind, item in marks(of(name, ROWS[name])) if kind == "rule"]

    assert len(lines) == limits
    assert all(line["x"] != line["x2"] for line in lines)


def test_bars_lead_from_the_strongest_that_promotes_to_the_strongest_that_suppresses() -> None:
    rows = [{"feature": number, "mean_best": mean} for number, mean in enumerate([0.1, -0.3, 0.2])]
    bars = [item for kind, item in marks(of("strongest", rows)) if kind == "rect"]
    by_place = sorted(bars, key=lambda bar: bar["y"])

    assert [bar["description"] for bar in by_place] == ["Feature 2", "Feature 0", "Feature 1"]
    assert by_place[0]["fill"] != by_place[2]["fill"]
    assert by_place[1]["x"] == pytest.approx(by_place[2]["x"] + by_place[2]["width"]), "at 0"


@pytest.mark.parametrize(
    ("params", "above"),
    [
        ({}, [1]),
        ({"min_log_ratio": 0.1}, [1, 2]),
        ({"min_log_ratio": 0.2}, [1]),  # above, not at
        ({"min_log_ratio": None}, [1, 2]),
        ({"min_score": -1}, [1, 3]),
        ({"min_score": None, "min_log_ratio": None}, [1, 2, 3]),
    ],
)
def test_the_thresholds_decide_what_is_marked(params: dict[str, Any], above: list[int]) -> None:
    drawn = list(marks(of("ratio", ROWS["ratio"], **params)))
    points = [item for kind, item in drawn if kind == "symbol"]
    lines = [item for kind, item in drawn if kind == "rule" and item.get("opacity", 1)]

    diamonds = [number for number, point in enumerate(points, 1) if point["shape"] == "diamond"]
    assert diamonds == above
    assert len(lines) == 2 - [*params.values()].count(None)


def test_an_effect_is_a_diamond_beside_the_bar_of_the_score() -> None:
    drawn = list(marks(of("pair", ROWS["pair"])))
    (diamond,) = (item for kind, item in drawn if kind == "symbol")
    bar = next(item for kind, item in drawn if kind == "rect")

    assert diamond["shape"] == "diamond"
    assert bar["y"] < diamond["y"] < bar["y"] + bar["height"]
    assert diamond["x"] > bar["x"] + bar["width"], "the effect is larger"


@pytest.mark.parametrize("name", ["before_after", "compare"])
def test_a_change_of_sign_has_another_shape(name: str) -> None:
    points = [item for kind, item in marks(of(name, ROWS[name])) if kind == "symbol"]

    assert [point["shape"] for point in points] == ["circle", "cross"]


@pytest.mark.parametrize("name", ["agreement", "before_after", "compare"])
def test_the_diagonal_is_where_both_numbers_are_equal(name: str) -> None:
    (line,) = (item for kind, item in marks(of(name, ROWS[name])) if kind == "rule")

    assert line["x"] < line["x2"]
    assert line["y"] > line["y2"], "pixels count downwards"


@pytest.mark.parametrize("name", sorted(CHARTS.keys() - {"distribution", "intervention"}))
def test_a_mark_leads_to_its_address(name: str) -> None:
    """A row without an address leads nowhere: the links of a chart are those of its rows."""
    rows = [row | {"href": f"#/r0/{number}"} for number, row in enumerate(ROWS[name])]

    def links(rows: Rows) -> set[str]:
        return set(re.findall(r'href="[^"#]*([^"]+)"', vl_convert.vegalite_to_svg(of(name, rows))))

    assert links(rows) == {row["href"] for row in rows}
    assert links(ROWS[name]) == set()


def test_a_tooltip_has_4_digits_and_a_dash_for_what_is_missing() -> None:
    rows = [FEATURE | LIMITS | {"mean_best": 0.123456}, {"feature": 7, "mean_best": -1}]
    spec = of("strongest", rows)
    encoding = spec["layer"][0]["encoding"]
    shown = {}
    for told in encoding["tooltip"]:  # a drawing without a page has descriptions, but no tooltips
        encoding["description"] = {"field": told["field"]}
        items = (item for kind, item in marks(spec) if kind == "rect")
        shown[told["title"]] = [item["description"] for item in items]

    assert shown == {
        "Feature": [515, 7],
        "Label": ["agreement", "\u2013"],
        "Mean effect, else score": ["0.1235", "\u22121"],
        "95 % interval": ["0.05 to 0.2", "\u2013"],
    }


HOSTILE = "</text><script>alert(1)</script>\u202eevil\n" + "w" * 100_000


@pytest.mark.parametrize(("name", "field"), [("strongest", "label"), ("groups", "value")])
def test_a_text_of_the_data_stays_a_short_text(name: str, field: str) -> None:
    rows = [*ROWS[name], ROWS[name][1] | {"feature": 9, field: HOSTILE}]
    svg = vl_convert.vegalite_to_svg(of(name, rows))

    assert "<script" not in svg
    assert "\u202e" not in svg
    assert "&lt;/text&gt;" in svg
    assert len(svg) < 20_000
    assert kinds(of(name, rows)).count(MARKS.get(name, "symbol")) == len(rows)
