"""Hostile text changes nothing: it is shown as it is, on a page that stays as it was."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from browser import opened
from playwright.sync_api import Browser, expect
from reports import page, scored

from atp.errors import ExitCode

pytestmark = pytest.mark.page

MARKUP = (
    '<script>alert(1)</script><img src=x onerror="alert(2)"></script><!-- ]]> '
    "{{ 7 * 7 }} {% raw %} {n} ${1} &lt;b&gt; \"'` <svg/onload=alert(3)> javascript:alert(4)"
)
DIRECTIONS = "abc \u202e\u2067def\u200f שלום \u0007\ufffe\u2028 עברית"
WORD = "W" * 100_000
TEXTS = (MARKUP, DIRECTIONS, WORD)
VIEWS = (
    "#/",
    "#/r0/features",
    "#/r0/pairs",
    "#/about",
    *(f"#/r0/pair/{each}" for each in range(3)),
)


# Text that follows a hostile one reads from left to right.
ENDS_AT_THE_RIGHT = """(element) => {
    const [first, last] = [0, element.firstChild.length - 1].map((place) => {
        const range = document.createRange();
        range.setStart(element.firstChild, place);
        range.setEnd(element.firstChild, place + 1);
        return range.getBoundingClientRect();
    });
    return last.top > first.top || last.left > first.left;
}"""


@pytest.fixture(scope="module")
def hostile(
    tmp_path_factory: pytest.TempPathFactory,
    model_folder: Callable[[str], Path],
    sae_folder: Callable[..., Path],
) -> Path:
    """The page of a run over hostile texts, wherever a text can stand."""
    folder = tmp_path_factory.mktemp("hostile")
    questions = tiny.questions(len(TEXTS))
    for question, text in zip(questions, TEXTS, strict=True):
        question |= {"question_id": text, "dataset": text}
        question["variations"] = question["variations"][:2]
        base, flagged = question["variations"]
        base["response"] = f"no {text}"
        flagged |= {"template_type": text, "prompt": f"{text}\nComment:", "response": text}
    model = (f"--model={model_folder('llama')}", f"--sae={sae_folder()}")
    result = scored(folder / "run", questions, *model, code=ExitCode.PAIRS_FAILED)
    labels = folder / "labels.json"
    labels.write_text(json.dumps({str(number): TEXTS[number % 3] for number in range(128)}))
    return page(folder / "report.html", result, options=(f"--labels={labels}",))


def test_hostile_texts_are_shown_and_change_nothing(browser: Browser, hostile: Path) -> None:
    with opened(browser, hostile, width=360) as shown:
        views = list(VIEWS)
        blocks = shown.locator("head script, body > script").count()
        for view in views:
            shown.evaluate("address => { location.hash = address; }", view)
            expect(shown.locator("main h1")).to_be_focused()
            expect(shown.locator("main")).to_contain_text(re.compile(".{300}", re.DOTALL))
            assert shown.evaluate("document.documentElement.scrollWidth") == 360, view
            assert shown.locator("script").count() == blocks, view
            assert shown.locator("main img, main b, main iframe, [onerror], [onload]").count() == 0
            assert shown.locator(".problem").count() == 0, view
            if view == "#/":
                sentences = shown.locator(".sentences").inner_text()
                assert "\u202e" not in sentences
                assert 300 < len(sentences) < 3000
            if view == "#/r0/features":
                link = shown.locator(".table-box a[href*='/feature/']").first
                views.append(link.get_attribute("href") or "")
        for number, text in enumerate(TEXTS):
            shown.evaluate("address => { location.hash = address; }", f"#/r0/pair/{number}")
            words = shown.locator(".words")
            expect(shown.locator("main h1")).to_have_text(f"Pair {number}")
            expect(words).to_have_count(3)
            assert words.nth(0).text_content() == f"{text}\nComment:"
            assert words.nth(1).text_content() == text
            assert len(shown.locator("main p", has=shown.locator("code")).first.inner_text()) < 600
            assert shown.locator("main code").first.evaluate(ENDS_AT_THE_RIGHT)


def test_a_search_for_markup_finds_it(browser: Browser, hostile: Path) -> None:
    with opened(browser, hostile, "#/r0/pairs") as shown:
        shown.get_by_role("searchbox").fill("<script>alert(1)")
        expect(shown.locator("tbody tr[aria-rowindex]")).to_have_count(1)
        expect(shown).to_have_url(re.compile("q=%3Cscript"))
        shown.reload()
        expect(shown.locator("tbody tr[aria-rowindex]")).to_have_count(1)
        expect(shown.get_by_role("searchbox")).to_have_value("<script>alert(1)")
