"""`atp report`: reads results and interventions, and writes their page and their figures."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from atp.dataset.atomic import atomic_write, not_written
from atp.errors import SettingsError
from atp.report import chart_tables, figures, page_data
from atp.report.charts import specifications
from atp.report.index import name_of_page
from atp.report.labels import read_labels
from atp.report.rendering import page
from atp.report.result_contents import names_of, read
from atp.report.sources import found_in
from atp.report.texts import LANGUAGES
from atp.runtime.live import phase

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from atp.config.report import ReportSettings
    from atp.config.selection import SelectionSettings
    from atp.dataset.result_files import ResultFile
    from atp.report.result_contents import ResultContents
    from atp.report.sources import Intervention

log = structlog.get_logger()
PAGE = (".html", ".htm")
HINT = "Free space or name another place with --out, then start the same command."


def report(
    paths: Sequence[Path], out: Path, selection: SelectionSettings, own: ReportSettings
) -> list[Path]:
    """Write the page of some results, and their figures; return the files, the page last.

    Args:
        paths: results, reports of `atp intervene`, and folders of them.
        out: the page, if it ends in .html, else its folder.
        selection: which features to select.
        own: labels and figures.

    Raises:
        InputError: a file is at fault.
        SaveError: the page or a figure cannot be written.
        SettingsError: `out` is another file.
    """
    began = time.monotonic()
    if out.suffix not in PAGE and out.is_file():
        msg = f"--out={out} is a file, and no page."
        raise SettingsError(msg, "Name a folder, or a file that ends in .html.")
    results, interventions, left_out = found_in(paths)
    log.info(
        "report.found",
        results=[str(result.path) for result in results],
        interventions=[str(each.path) for each in interventions],
        left_out=[str(path) for path in left_out],
    )
    contents = read_all(results, selection, own.labels)
    written: list[Path] = []
    if own.figures is not None:
        with phase("drawing the figures"):
            charts = chart_tables.of_all(contents, interventions)
            names = ("min_score", "min_log_ratio")
            thresholds = {name: getattr(selection, name) for name in names}
            written = figures.write(own.figures, charts, thresholds)
    first = results[0].path if results else interventions[0].path
    path = out if out.suffix in PAGE else out / name_of_page(first)
    with phase("writing the page"):
        content = page_of(contents, interventions).encode()
        write(path, content)
    log.info(
        "report.done",
        page=str(path),
        bytes=len(content),
        figures=len(written),
        seconds=round(time.monotonic() - began, 3),
    )
    return [*written, path]


def read_all(
    results: Sequence[ResultFile], selection: SelectionSettings, labels: Path | None = None
) -> list[ResultContents]:
    """Read results, one after the other, with the labels of their features."""
    saes = [result.metadata["sae"] for result in results]
    of_saes = {} if labels is None else read_labels(labels, saes)
    contents = []
    for number, name in enumerate(names_of(saes)):
        with phase(f"reading {results[number].path.name}"):
            found = read(name, results[number], selection)
        contents.append(replace(found, labels=of_saes.get(number, {})))
    return contents


def page_of(contents: Sequence[ResultContents], interventions: Sequence[Intervention] = ()) -> str:
    """Return the page of results that were read."""
    charts = {language: specifications(language) for language in LANGUAGES}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return page(*page_data.page_data(contents, interventions, charts, created))


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and its folder if it is missing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_written(path, error, hint=HINT) from error
    with atomic_write(path, len(content)) as file:
        file.write(content)
