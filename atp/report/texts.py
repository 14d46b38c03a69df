"""The texts of the report's interface, in each language: `page/texts/*.json`, shared with JS."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "page" / "texts"
LANGUAGES = ("en", "ja")


@cache
def all_texts() -> dict[str, dict[str, str]]:
    """Return every text by key and language."""
    texts: dict[str, dict[str, str]] = {}
    for path in sorted(FOLDER.glob("*.json")):
        texts |= json.loads(path.read_text(encoding="utf-8"))
    return texts


def texts_in(language: str) -> dict[str, str]:
    """Return every text in a language by key."""
    return {key: of_languages[language] for key, of_languages in all_texts().items()}


def text(key: str, language: str, **values: object) -> str:
    """Return a text with its `{name}` placeholders filled; a KeyError is a fault of atp."""
    template = all_texts()[key][language]
    return re.sub(r"\{(\w+)\}", lambda match: str(values[match[1]]), template)
