"""The texts of the interface: each in both languages, with the same placeholders."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from atp.report.texts import FOLDER, LANGUAGES, all_texts, text, texts_in


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_text_is_in_both_languages(path: Path) -> None:
    pairs = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=list)
    keys = [key for key, _ in pairs]

    assert len(set(keys)) == len(keys)
    for key, of_languages in pairs:
        assert key.startswith(f"{path.stem}."), key
        assert [language for language, _ in of_languages] == list(LANGUAGES), key
        placeholders = [set(re.findall(r"\{\w+\}", each)) for _, each in of_languages]
        assert placeholders[0] == placeholders[1], key
        assert len({bool(each.strip()) for _, each in of_languages}) == 1, key


def test_placeholders_are_filled_once() -> None:
    assert text("charts.to", "en", low=1, high="{low}") == "1 to {low}"
    assert text("charts.to", "ja", low=1, high=2) == "1〜2"
    with pytest.raises(KeyError, match="high"):
        text("charts.to", "en", low=1)
    with pytest.raises(KeyError, match=r"charts\.nothing"):
        text("charts.nothing", "en")


def test_a_language_has_every_key() -> None:
    assert texts_in("ja").keys() == texts_in("en").keys() == all_texts().keys()
    assert texts_in("ja")["charts.pair"] == "ペア"
