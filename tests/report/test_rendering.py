"""The text of the page: whole without scripts, closed to the outside, and safe from its data."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atp.report.packing import TextColumn, table
from atp.report.rendering import joined_modules, page
from atp.report.texts import LANGUAGES, all_texts, texts_in

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    '"><img src=x onerror=alert(1)>',
    "\u202egnorw\u202c \u2067אב\u2069",
    "x" * 100_000,
    "{{ 7 * 7 }}",
    "\u2028\x00&amp;",
]


class _Parsed(HTMLParser):
    """A page as a browser splits it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.contents: list[str] = []  # of each script and style, by its place in `elements`
        self.words: list[str] = []
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.contents.append("")
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in {"script", "style"}:
            self.contents[-1] += data
        else:
            self.words.append(data)

    def all(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        pairs = zip(self.elements, self.contents, strict=True)
        return [(attributes, content) for (name, attributes), content in pairs if name == tag]


def overview(word: str = "word") -> dict[str, Any]:
    feature = {"label": word, "mean_best_low": -0.5, "mean_best_high": None}
    return {
        "version": "0.1.0",
        "created": "2026-01-31T12:00:00+00:00",
        "texts": {language: texts_in(language) for language in LANGUAGES},
        "charts": {},
        "results": [
            {
                "name": word,
                "model": word,
                "answer": {"en": [f"Feature 7 promotes: {word}"], "ja": [word]},
                "strongest": [
                    {"feature": "7", "mean_best": 0.25, "direction": "promotes"} | feature,
                    {"feature": "9", "mean_best": -0.125, "direction": "suppresses"} | feature,
                ],
            }
        ],
        "interventions": [],
        "compare": [],
    }


def test_the_answer_is_there_before_any_script_runs() -> None:
    words = " ".join(_Parsed(page(overview(), {})).words)
    assert "Feature 7 promotes: word" in words
    assert "+0.25" in words
    assert "\u22120.125" in words  # a minus sign
    assert "\u22120.5 \u2026 \u2013" in words  # an interval without an upper end


def test_the_navigation_leads_only_to_views_that_there_are() -> None:
    alone = overview() | {"results": [], "interventions": [{"file": "atp_intervention.json"}]}
    assert _views(alone) == ["intervention", "about"]
    assert _views(overview()) == ["answer", "features", "pairs", "about"]
    two = overview() | {"results": 2 * overview()["results"]}
    assert _views(two) == ["answer", "features", "pairs", "compare", "about"]


def _views(content: dict[str, Any]) -> list[str | None]:
    links = [attributes for attributes, _ in _Parsed(page(content, {})).all("a")]
    return [attributes["data-view"] for attributes in links if "data-view" in attributes]


def test_the_policy_allows_the_scripts_and_the_style_of_the_page_and_nothing_else() -> None:
    parsed = _Parsed(page(overview(), {"r0-pairs": "QUJD"}))
    (policy,) = (
        attributes["content"] or ""
        for attributes, _ in parsed.all("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    run = [text for attributes, text in parsed.all("script") if _runs(attributes)]
    styles = [text for _, text in parsed.all("style")]
    assert len(run) == 2
    assert directives == {
        "default-src": "'none'",
        "script-src": " ".join(map(_source, run)),
        "style-src": " ".join(map(_source, styles)),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def _runs(attributes: dict[str, str | None]) -> bool:
    return attributes.get("type") in {None, "module"}


def _source(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def test_no_element_names_another_place() -> None:
    for tag, attributes in _Parsed(page(overview(), {})).elements:
        for name in ("src", "href", "action", "srcset", "style", "onclick", "onload"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:,")), (tag, attributes)


@pytest.mark.parametrize("word", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_stays_text(word: str) -> None:
    plain, hostile = (_Parsed(page(overview(each), {})) for each in ("word", word))
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in plain.elements]
    (island,) = [
        text for attributes, text in hostile.all("script") if attributes.get("id") == "overview"
    ]
    assert json.loads(island) == overview(word)


def test_the_modules_are_one_script_without_imports() -> None:
    joined = joined_modules()
    assert not re.search(r"^(import|export)\b", joined, re.MULTILINE)
    names = re.findall(r"^const from_(\w+) = ", joined, re.MULTILINE)
    used = re.findall(r"^const \{[^}]*\} = from_(\w+);", joined, re.MULTILINE)
    assert names[-1] == "main"
    assert set(used) == {*names} - {"main"}


def test_every_text_that_the_scripts_and_the_template_name_is_there() -> None:
    folder = Path(sys.modules[page.__module__].__file__ or "").parent / "page"
    sources = [path.read_text(encoding="utf-8") for path in folder.glob("*.js")]
    named = {key for source in sources for key in re.findall(r'\bt\(\s*"([\w.]+)"', source)}
    template = (folder / "page.html.j2").read_text(encoding="utf-8")
    named |= set(re.findall(r'(?:\b(?:t|text)\(|data-t(?:-label)?=)"([\w.]+)"', template))
    assert len(named) > 50
    assert named <= all_texts().keys()


def test_a_block_comes_back_with_the_numbers_of_the_file() -> None:
    random = np.random.default_rng(17)
    bits = random.integers(0, 2**32, 20_000, np.uint32)
    scores = bits.view(np.float32)
    scores = scores[np.isfinite(scores)]
    features = random.integers(0, 2**32, len(scores), np.uint32)
    words = [None, "", "日本語", *HOSTILE[:2]] * len(scores)
    block = table({"score": scores, "feature": features, "word": TextColumn(words[: len(scores)])})
    reader = Path(__file__).parent / "page/read_block.js"
    deno = Path(sys.executable).with_name("deno")
    command = [deno, "run", "--no-remote", "--no-npm", "--quiet", reader]
    done = subprocess.run(command, input=block, capture_output=True, text=True, check=True)
    read = json.loads(done.stdout, parse_int=float)  # JavaScript writes 7e20 as an integer
    assert read["rows"] == len(scores)
    assert read["feature"] == features.tolist()
    assert read["word"] == words[: len(scores)]
    # As the result file has them: the fewest digits that give the float32 back.
    assert read["score"] == [float(str(score)) for score in scores]
