"""The index page of a folder: its runs, the newest first, each with a link to its report."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from atp.dataset.atomic import atomic_write
from atp.dataset.result_files import read_result
from atp.errors import InputError
from atp.features.results import PATTERN
from atp.report.rendering import render
from atp.report.result_contents import label_of
from atp.report.sources import check_metadata

if TYPE_CHECKING:
    from pathlib import Path

    from atp.dataset.result_files import ResultFile

NAME = "index.html"


def name_of_page(result: Path) -> str:
    """Return the name of the page of a result: a run has one, whenever it is written."""
    return f"atp_report_{re.sub('^atp_(results_)?', '', result.stem)}.html"


def write_index(folder: Path) -> Path:
    """Write the index page of a folder anew, and return it.

    Of each result only its metadata is read. A file that is no result of this version is left out.
    """
    found = [result for path in folder.glob(PATTERN) if (result := _read(path)) is not None]
    found.sort(key=lambda result: (result.started, result.path.name), reverse=True)
    reports = {_run_of(result): page for result in found if (page := _page(result)) is not None}
    runs = [{**_row(result), "report": reports.get(_run_of(result))} for result in found]
    content = render("index.html.j2", {}, folder=folder.name, runs=runs).encode()
    with atomic_write(folder / NAME, len(content)) as file:
        file.write(content)
    return folder / NAME


def _read(path: Path) -> ResultFile | None:
    try:
        result = read_result(path)
        check_metadata(result)
    except InputError:
        return None
    return result


def _run_of(result: ResultFile) -> tuple[object, ...]:
    """Return the identity of a result's run; of the names in a folder, no two runs share a time."""
    return result.run, result.path.stem[-len("20260131_120000") :]


def _page(result: ResultFile) -> str | None:
    """Return the name of a result's page; a run over several SAEs has one, of its first result."""
    page = result.path.with_name(name_of_page(result.path))
    return page.name if page.is_file() else None


def _row(result: ResultFile) -> dict[str, Any]:
    return {
        "started": result.metadata["started"],
        "model": result.metadata["model"]["name"],
        "dictionary": label_of(result.metadata["sae"]),
        "counts": result.metadata["counts"],
        "result": result.path.name,
    }
