"""The page of a real run in Chromium: its views, its charts, and what a reader does in them."""

from __future__ import annotations

import csv
import io
import re
from math import nan
from pathlib import Path
from typing import Any

import pytest
from browser import ink, opened, violations
from made_up_scores import expected, occurring, scored
from playwright.sync_api import Browser, Locator, Page, expect
from reports import Shown, pairs
from runs import read

pytestmark = pytest.mark.page

CHARTS = {  # of each view
    "#/": 1,
    "#/r0/features": 2,
    "#/r0/feature/95": 2,
    "#/r0/pairs": 0,
    "#/r0/pair/0": 1,
    "#/intervention/0": 2,
    "#/compare": 3,
    "#/about": 0,
}
MODULES = Path(__file__).parents[2] / "atp/report/page"


def go(page: Page, address: str) -> None:
    """Open a view of the page, and wait until its charts are drawn."""
    page.evaluate("address => { location.hash = address; }", address)
    expect(page.locator("main .chart svg")).to_have_count(CHARTS[address.partition("?")[0]])


def rows(page: Page) -> Locator:
    """Return the rows of the first large table that are in sight."""
    return page.locator(".table-box").first.locator("tbody tr[aria-rowindex]")


def saved(page: Page, number: int = 0) -> list[dict[str, str]]:
    """Return a large table as the page saves it."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").nth(number).click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (360, True)])
def test_each_view_is_drawn_and_open_to_all_readers(
    browser: Browser, shown: Shown, width: int, *, dark: bool
) -> None:
    with opened(browser, shown.page, width=width, dark=dark) as page:
        for view in CHARTS:
            go(page, view)
            for chart in page.locator("main .chart").all():
                assert ink(chart) > 0.01, view
            assert violations(page) == [], view
            assert page.evaluate("document.documentElement.scrollWidth") == width, view
            assert page.locator(".problem").count() == 0, view
            assert page.title().startswith(page.locator("h1").inner_text()), view
        luminance = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", luminance)[:3])) < 3 * 128) == dark


def test_features_are_searched_sorted_and_saved(browser: Browser, shown: Shown) -> None:
    numbers = scored([shown.result])
    with opened(browser, shown.page, "#/r0/features") as page:
        table = {int(row["feature"]): row for row in saved(page)}
        assert table.keys() == occurring(numbers)
        for feature in list(table)[:20]:
            wanted = expected(numbers, feature, 1e-6)
            for name in ("mean_best", "mean_score", "frequency", "log_ratio"):
                assert float(table[feature][name]) == pytest.approx(wanted[name], rel=1e-9)

        search = page.get_by_role("searchbox")
        page.get_by_role("button", name="Copy as CSV").click()
        search.press("Control+v")
        assert search.input_value().startswith("feature,")
        search.fill("")
        reached = []
        for _ in range(20):  # as the keyboard goes on from there
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.innerText"))
        assert "Mean score" in "".join(reached)
        assert list(table)[:2] == [int(text) for text in reached if text.isdigit()][:2]

        page.get_by_role("columnheader", name="Mean score").get_by_role("button").press("Enter")
        by_score = sorted(table, key=lambda each: float(table[each]["mean_score"]))
        first = rows(page).first.locator("th").inner_text()
        assert first in {str(by_score[0]), str(by_score[-1])}
        expect(page).to_have_url(re.compile("sort=-?mean_score"))
        assert page.locator("th[aria-sort=ascending], th[aria-sort=descending]").count() == 1

        search.fill("praise")
        expect(rows(page)).to_have_count(1)
        assert rows(page).locator("th").inner_text() == "39"
        expect(page).to_have_url(re.compile("q=praise"))
        state = page.url
        page.get_by_role("link", name="39", exact=True).press("Enter")
        expect(page.locator("h1")).to_have_text("Feature 39")
        page.go_back()
        expect(rows(page)).to_have_count(1)
        assert page.url == state
    with opened(browser, shown.page, f"#{state.partition('#')[2]}") as page:
        expect(rows(page)).to_have_count(1)  # the address opens what it was copied from


def test_counts_follow_the_thresholds(browser: Browser, shown: Shown) -> None:
    with opened(browser, shown.page, "#/r0/features") as page:
        table = saved(page)
        selected = sum(row["selected"] not in {"", "0"} for row in table)
        status = page.locator(".passing")
        expect(status).to_contain_text(f"{selected} of {len(table)} ")

        page.locator("#threshold-min_score").fill("0.05")
        page.locator("#threshold-min_log_ratio").fill("-2")
        above = [
            row
            for row in table
            if float(row["mean_best"]) > 0.05 and float(row["log_ratio"] or "nan") > -2
        ]
        assert 0 < len(above) != selected
        expect(status).to_contain_text(f"{len(above)} of {len(table)} ")
        page.locator("label", has_text="Show").locator("select").select_option("passing")
        expect(page.locator(".table-count").first).to_contain_text(f"{len(above)} of {len(table)}")
        assert {row["feature"] for row in saved(page)} == {row["feature"] for row in above}
        expect(page).to_have_url(re.compile("min_score=0.05&min_log_ratio=-2&show=passing"))
        lines = page.locator("main .chart").first

        page.reload()
        expect(status).to_contain_text(f"{len(above)} of {len(table)} ")
        before = ink(lines)
        page.get_by_role("button", name="As in the selection").click()
        expect(status).to_contain_text(f"{selected} of {len(table)} ")
        page.wait_for_timeout(200)
        assert ink(lines) != before


def test_a_feature_names_the_pairs_where_it_counts_most(browser: Browser, shown: Shown) -> None:
    best: dict[int, float] = {}
    for number, (_, variation) in enumerate(pairs(shown.result)):
        for each in variation["atp_analysis"].get("top_features", ()):
            if each["id"] == "95":
                best[number] = each.get("effect", each["score"])
    order = sorted(best, key=lambda number: -abs(best[number]))[:10]
    with opened(browser, shown.page, "#/r0/feature/95") as page:
        cards = page.locator(".cards > li")
        expect(cards).to_have_count(len(order))
        for card, number in zip(cards.all(), order, strict=True):
            expect(card.get_by_role("link")).to_have_text(f"Pair {number}")
            said = card.locator("strong").inner_text().split()[-1].replace("−", "-")
            assert float(said) == pytest.approx(best[number], rel=1e-3)
        cards.first.get_by_role("link").click()
        expect(page.locator("h1")).to_have_text(f"Pair {order[0]}")
        page.go_back()
        expect(page.locator("h1")).to_have_text("Feature 95")


def test_pairs_are_filtered_and_opened(browser: Browser, shown: Shown) -> None:
    all_pairs = list(pairs(shown.result))
    with opened(browser, shown.page, "#/r0/pairs") as page:
        expect(page.locator(".kept")).to_contain_text("15 of 15 pairs: 13 scored, 1 skipped")
        page.get_by_label("Outcome").select_option("error")
        expect(rows(page)).to_have_count(1)
        expect(rows(page)).to_contain_text("Sequence too long")
        page.get_by_label("Outcome").select_option("")
        page.get_by_label("Dataset").select_option("others")
        page.get_by_label("Template").select_option("I wrote")
        expect(rows(page)).to_have_count(1)
        rows(page).locator("th a").click()

        number = 14
        base, variation = all_pairs[number]
        expect(page.locator("h1")).to_have_text(f"Pair {number}")
        texts = page.locator(".words").all_inner_texts()
        seen = [re.sub("[↵⇥␣]", " ", text) for text in texts[:3]]
        written = (variation["prompt"], variation["response"], base["response"])
        assert [text.split() for text in seen] == [text.split() for text in written]
        analysis = variation["atp_analysis"]
        marks = [text.strip(" ␣") for text in page.locator("mark").all_inner_texts()]
        assert marks == [analysis[token].strip() for token in ("target_token", "base_token")]
        listed = saved(page)
        names = {"feature": "id", "score": "score", "effect": "effect", "activation": "activation"}
        for row, feature in zip(listed, analysis["top_features"], strict=False):
            for name, field in names.items():
                assert float(row[name] or "nan") == pytest.approx(
                    float(feature.get(field, "nan")), rel=0, abs=0, nan_ok=True
                )
        heat = page.locator(".heatmap .token")
        assert heat.count() == len(analysis["prompt_tokens"]) > 20
        page.get_by_role("link", name="All pairs").click()
        expect(rows(page)).to_have_count(1)  # the filters are as they were


def test_the_page_holds_the_numbers_of_the_result(browser: Browser, shown: Shown) -> None:
    modules = [
        (MODULES / f"{name}.js").read_text(encoding="utf-8") for name in ("unpacking", "numbers")
    ]
    own = "".join(
        re.sub(r"^import .*\n|^export ", "", text, flags=re.MULTILINE) for text in modules
    )
    with opened(browser, shown.page) as page:
        found: dict[str, Any] = page.evaluate(
            f"""async () => {{ {own}
            const {{ columns }} = await unpackedTable(
                document.getElementById("r0-listed").textContent);
            const numbers = Object.entries(columns).map(
                ([name, column]) => [name, Array.from(column, (x) =>
                    Number.isNaN(x) ? null : name === "start" ? x : shortest(x))]);
            return Object.fromEntries(numbers); }}"""
        )
    start = 0
    for number, (_, variation) in enumerate(pairs(shown.result)):
        listed = variation["atp_analysis"].get("top_features", [])
        assert found["start"][number] == start
        end = start + len(listed)
        assert found["feature"][start:end] == [int(each["id"]) for each in listed]
        for name in ("score", "activation", "relative_size", "effect"):
            assert found[name][start:end] == [each.get(name) for each in listed]
        start = end
    assert len(found["score"]) == start > 500


def test_the_intervention_has_the_numbers_of_its_report(browser: Browser, shown: Shown) -> None:
    report = read(shown.intervention)
    with opened(browser, shown.page, "#/intervention/0") as page:
        for name in ("selected", "random"):
            row = page.locator(".table-box").first.locator("tr", has_text=re.compile(f"^{name}"))
            change = row.locator("td").nth(1).inner_text().replace("−", "-")
            assert float(change) == pytest.approx(report["summary"][name]["mean_change"], rel=1e-3)
        found = saved(page, 1)
    assert len(found) == len(report["pairs"]) == 15
    for row, pair in zip(found, report["pairs"], strict=True):
        for name in ("before", "after", "change"):
            assert float(row[name] or "nan") == pytest.approx(
                pair.get(name, nan), abs=0, nan_ok=True
            )


def test_language_and_colours_are_chosen_and_kept(browser: Browser, shown: Shown) -> None:
    with opened(browser, shown.page, "#/r0/features") as page:
        english = page.locator("h1").inner_text()
        page.locator("#choose-language").select_option("ja")
        expect(page.locator("h1")).not_to_have_text(english)
        page.locator("#choose-theme").select_option("dark")
        page.reload()
        expect(page.locator("html")).to_have_attribute("lang", "ja")
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        expect(page.locator("main .chart svg")).to_have_count(2)
        for view in CHARTS:
            go(page, view)
            left = page.locator("main").inner_text()
            assert not re.search(r"\b(frame|features|pairs|compare|intervention)\.[a-z_]+\b", left)
            assert re.search("[ぁ-んァ-ン一-龥]", page.locator("h1").inner_text()), view
    with opened(browser, shown.page, language="ja-JP") as page:
        expect(page.locator("html")).to_have_attribute("lang", "ja")
