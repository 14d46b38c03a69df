"""Every result opens: old, of a shard and a transcoder, with errors only, or large."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import large_results
import made_up_scores
import pytest
import tiny
from browser import opened
from playwright.sync_api import Browser, expect
from reports import Shown, of_an_old_version, page, scored

pytestmark = pytest.mark.page

EXAMPLE = Path(__file__).parents[2] / "examples/smollm2/feedback.json"
PAIRS = 2_000
MOST_BYTES = 25_000_000 * PAIRS / 7_000  # benchmarks/report.py measures 7,000


@pytest.fixture
def open_all(browser: Browser) -> Callable[[Path], dict[str, str]]:
    """Return a function that opens each view of a page, and gives their texts."""

    def texts(path: Path) -> dict[str, str]:
        found = {}
        with opened(browser, path) as shown:
            views = ["#/", "#/r0/features", "#/r0/pairs", "#/r0/pair/0", "#/about"]
            for view in views:
                shown.evaluate("address => { location.hash = address; }", view)
                shown.wait_for_timeout(200)
                expect(shown.locator("main h1")).to_be_focused()
                link = shown.locator("a[href*='/feature/']").first
                if view == "#/r0/features" and link.count():
                    views.append(link.get_attribute("href") or "")
                assert shown.locator(".problem").count() == 0, view
                found[view] = shown.locator("main").inner_text()
        return found

    return texts


def test_a_result_of_an_old_version_opens(
    open_all: Callable[[Path], dict[str, str]], shown: Shown, tmp_path: Path
) -> None:
    old = of_an_old_version(shown.result, tmp_path / "atp_results_old.json")
    texts = open_all(page(tmp_path / "old.html", old))
    assert len(texts) == 6
    assert "NaN" not in "".join(texts.values())


def test_a_shard_of_a_transcoder_opens(
    open_all: Callable[[Path], dict[str, str]],
    model_folder: Callable[[str], Path],
    sae_folder: Callable[..., Path],
    tmp_path: Path,
) -> None:
    options = [f"--model={model_folder('llama')}", f"--sae={sae_folder('skip_transcoder')}"]
    options += ["--shard=1/2", "--batch-tokens=600"]
    part = scored(tmp_path / "run", tiny.questions(), *options)
    texts = open_all(page(tmp_path / "shard.html", part))
    assert len(texts) == 6
    assert "NaN" not in "".join(texts.values())


def test_a_result_with_errors_only_opens(
    open_all: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    source = made_up_scores.source(tmp_path)
    failed = dict.fromkeys(made_up_scores.analyses(source), made_up_scores.ERROR)
    made = made_up_scores.made(tmp_path / "run", source, found=failed)
    texts = open_all(page(tmp_path / "errors.html", made))
    assert "OOM" in texts["#/r0/pairs"]
    assert "OOM" in texts["#/r0/pair/0"]


def test_the_example_opens(open_all: Callable[[Path], dict[str, str]], tmp_path: Path) -> None:
    made = made_up_scores.made(tmp_path / "run", EXAMPLE, exact="flagged", activations=True)
    texts = open_all(page(tmp_path / "example.html", made))
    assert len(texts) == 6


def test_a_large_result_opens_and_draws_only_what_is_in_sight(
    browser: Browser, shown: Shown, tmp_path: Path
) -> None:
    large = large_results.write(tmp_path / "atp_results_large.json", shown.result, PAIRS)
    path = page(tmp_path / "large.html", large)
    assert 3_000_000 < path.stat().st_size < MOST_BYTES
    with opened(browser, path, "#/r0/features") as tab:
        rows = tab.locator("tbody tr[aria-rowindex]")
        expect(rows.first).to_be_visible()
        features = int(tab.locator(".table-box table").get_attribute("aria-rowcount") or "") - 1
        assert features > 2000
        assert rows.count() < 100
        tab.locator(".table-box").evaluate("box => box.scrollTo(0, box.scrollHeight)")
        expect(rows.last).to_have_attribute("aria-rowindex", str(features + 1))
        assert rows.count() < 100

        tab.evaluate("location.hash = '#/r0/pairs'")
        expect(tab.locator(".table-box table")).to_have_attribute("aria-rowcount", f"{PAIRS + 1}")
        tab.evaluate("address => { location.hash = address; }", f"#/r0/pair/{PAIRS - 1}")
        expect(tab.locator(".words")).to_have_count(3)
