"""Figures for papers: whole, of the right size, the same each time, and equal to their tables."""

from __future__ import annotations

import io
import struct
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from atp.errors import SaveError
from atp.report import figures

STRONGEST = pd.DataFrame(
    {
        "feature": [515, 327, 7],
        "label": ["agreement & praise", None, "</text><b>\x00 " + "w" * 100_000],
        "mean_best": [0.1 + 0.2, 1 / 3, -1e-17],
        "mean_best_low": [0.1, np.nan, -0.2],
        "mean_best_high": np.array([0.4, np.nan, 0.1], dtype=np.float32),
    }
)
SVG = "{http://www.w3.org/2000/svg}"


def written(folder: Path, name: str, table: pd.DataFrame) -> dict[str, bytes]:
    paths = figures.write(folder, {name: table})
    assert [path.name for path in paths] == [f"{name}.{ending}" for ending in ("svg", "png", "csv")]
    return {path.suffix: path.read_bytes() for path in paths}


def test_a_figure_is_one_column_wide_and_names_its_features(tmp_path: Path) -> None:
    files = written(tmp_path / "new" / "figures", "layer20-2048_strongest", STRONGEST)
    svg = ET.fromstring(files[".svg"])  # noqa: S314  (the test wrote it)

    texts = {"".join(text.itertext()).split()[0] for text in svg.iter(f"{SVG}text")}
    assert {"515", "327", "7"} <= texts
    assert svg.get("width") == "85mm"
    width, height = map(float, (svg.get("viewBox") or "").split()[2:])
    assert (svg.get("height") or "").removesuffix("mm") == f"{85 * height / width:.2f}"
    assert all(
        float(text.get("font-size", "0px")[:-2]) * 85 / width * 72 / 25.4 > 8
        for text in svg.iter(f"{SVG}text")
    )
    pixels, _ = struct.unpack(">II", files[".png"][16:24])
    assert pixels == pytest.approx(85 / 25.4 * 300, abs=1)
    assert b"var(" not in files[".svg"]
    assert b"currentColor" not in files[".svg"]
    assert {".svg": len(files[".svg"]) < 20_000, ".png": len(files[".png"]) < 500_000} == {
        ".svg": True,
        ".png": True,
    }


def test_the_csv_holds_the_numbers_of_the_table(tmp_path: Path) -> None:
    table = STRONGEST.assign(label='=1,"2"\n')
    read = pd.read_csv(
        io.BytesIO(written(tmp_path, "strongest", table)[".csv"]), float_precision="round_trip"
    ).astype(table.dtypes)

    pd.testing.assert_frame_equal(read, table, check_exact=True)


def test_a_table_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    first, second = (written(tmp_path / name, "strongest", STRONGEST) for name in "ab")

    assert first == second


def test_the_longest_name_of_a_chart_counts(tmp_path: Path) -> None:
    """`before_after` is a chart, and so is any name before it, of a result."""
    table = pd.DataFrame({"before": [1.0], "after": [0.5], "flips": [False]})
    svg = written(tmp_path, "pair_before_after", table)[".svg"].decode()

    assert "Metric without the features" in svg


def test_a_name_from_a_file_leads_to_no_other_folder(tmp_path: Path) -> None:
    name = f"{tmp_path / 'other'}/../x\0{'h' * 300}-2k_strongest"
    folder = tmp_path / "figures"

    paths = figures.write(folder, {name: STRONGEST})

    assert [path.parent for path in paths] == [folder] * 3
    assert all(path.stem.endswith("h-2k_strongest") for path in paths)


def test_thresholds_are_those_of_the_run(tmp_path: Path) -> None:
    table = pd.DataFrame({"feature": [1], "mean_best": [0.1], "log_ratio": [0.2], "selected": [1]})
    marked = {
        ratio: figures.as_svg("ratio", table, figures.PRINT, {"min_log_ratio": ratio})
        for ratio in (0.5, 0.1, None)
    }

    assert marked[0.5].count(figures.PRINT["var(--promotes)"]) == 1, "in the legend"
    assert marked[0.1].count(figures.PRINT["var(--promotes)"]) == 2
    assert marked[None].count(figures.PRINT["var(--promotes)"]) == 2


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(SaveError) as caught:
        figures.write(tmp_path / "file" / "figures", {"strongest": STRONGEST})

    assert "\n" not in str(caught.value)
    assert str(tmp_path / "file") in str(caught.value)


def test_nothing_is_written_if_a_chart_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no chart"):
        figures.write(tmp_path / "figures", {"strongest": STRONGEST, "unknown": STRONGEST})

    assert not (tmp_path / "figures").exists()
