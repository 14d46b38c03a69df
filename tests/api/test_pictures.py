"""A notebook shows a result and selected features as pictures, and their report in a frame."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import tiny

from atp import Features, Result, attribute, load_sae, select_features
from atp.errors import SaveError
from atp.model.language_model import Model

Loaded = Callable[[str], Model]
NAMED = re.compile(r'aria-label="Feature (\d+)"')


@pytest.fixture(scope="module")
def result(loaded: Loaded) -> Result:
    """A result of two SAEs, with effects, whose second pair is skipped."""
    first, _, *others = tiny.triples(2)
    pairs = [first, ("Why?", " same", " same"), *others]
    saes = [load_sae(tiny.make_sae("standard")), load_sae(tiny.make_sae("topk"))]
    return attribute(loaded("llama"), saes, pairs, top_k=5, exact="all")


@pytest.fixture(scope="module")
def found(result: Result) -> Features:
    """The features of its second SAE."""
    return select_features(result.saes[1], min_log_ratio=None, resamples=200)


def of_all_pairs(found: Features) -> pd.DataFrame:
    return found.table[found.table["group"] == "all"].set_index("feature")


def test_a_result_shows_the_features_that_matter_most_in_each_sae(
    result: Result, found: Features
) -> None:
    shown = result._repr_html_()
    pictures = re.findall("<svg.*?</svg>", shown, re.DOTALL)
    largest = of_all_pairs(found)["mean_best"].abs().nlargest(10)

    assert len(pictures) == 2
    assert {int(feature) for feature in NAMED.findall(pictures[1])} == {*largest.index}
    assert shown.rindex("</svg>") < shown.index("<table"), "the tables follow"


def test_features_show_both_directions_with_their_intervals(found: Features) -> None:
    shown = found._repr_html_()
    table = of_all_pairs(found)
    means = table["mean_best"]
    named = {int(feature) for feature in NAMED.findall(shown)}

    assert named == {
        *means[means > 0].nlargest(10).index,
        *means[means < 0].nsmallest(10).index,
    }
    (rows,) = pd.read_html(io.StringIO(shown))
    (selected,) = found.selected.values()
    assert [*rows["feature"][rows["selected"]].astype(str)] == selected[:10]
    assert rows["mean_best"].tolist() == pytest.approx(
        table.loc[rows["feature"], "mean_best"].tolist(), rel=1e-3
    )


def test_a_picture_is_readable_on_dark_and_light_and_loads_nothing(found: Features) -> None:
    (picture,) = re.findall("<svg.*?</svg>", found._repr_html_(), re.DOTALL)

    assert "currentColor" in picture
    assert "var(" not in picture
    assert not re.search(r"<(script|image|use|foreignObject|style)", picture)


@pytest.mark.parametrize("of", ["result", "found"])
def test_show_is_the_whole_report(of: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    shown = request.getfixturevalue(of)
    page = shown.show()
    saved = page.save(tmp_path / "report.html")

    assert saved.read_text(encoding="utf-8") == page.html
    assert "tiny" in page.html
    assert len(repr(page)) < 100
    with pytest.raises(SaveError, match="could not be written"):
        page.save(saved / "report.html")


def test_pictures_cost_nothing_until_they_are_asked_for() -> None:
    code = "import atp, sys; atp.select_features; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in told.stdout.split()}

    assert "pandas" in loaded
    assert not loaded & {"vl_convert", "jinja2"}
