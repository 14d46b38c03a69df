"""The report in a notebook's frame: it works there, and cannot leave it."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import opened
from made_up_scores import made, source
from playwright.sync_api import Browser

from atp import select_features

pytestmark = pytest.mark.page


def test_the_links_of_the_report_stay_in_the_frame(browser: Browser, tmp_path: Path) -> None:
    found = select_features(made(tmp_path / "in", source(tmp_path)), resamples=100)
    notebook = tmp_path / "notebook.html"
    frame = found.show()._repr_html_()
    notebook.write_text(f"<!doctype html><title>notebook</title>{frame}", encoding="utf-8")
    with opened(browser, notebook) as page:
        inside = page.frame_locator("iframe")
        inside.locator("#content svg").first.wait_for()
        inside.locator("nav a[data-view=features]").click()
        inside.locator("nav a[data-view=features][aria-current=page]").wait_for()

        assert page.frames[1].url == "about:srcdoc#/r0/features"
        assert page.url == notebook.as_uri()
