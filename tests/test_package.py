"""The package's metadata: made when it is built, and repeated in CITATION.cff."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from package_metadata import PackageMetadata, absolute_links

import atp

ROOT = Path(__file__).parent.parent
SOURCE = "https://forge.example/owner/atp"


def test_the_readme_of_a_package_index_has_absolute_links_only() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = absolute_links(readme, SOURCE, "v1")
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert f"{SOURCE}/blob/v1/docs/method.md" in targets
    assert all(target.startswith(("https://", "#")) for target in targets)
    assert text.replace(f"{SOURCE}/blob/v1/", "").replace(f"{SOURCE}/raw/v1/", "") == readme


def test_images_are_linked_as_files_and_other_links_stay() -> None:
    text = "[![CI](a.svg)](docs/ci.md) [here](#here) [there](https://there.example)"
    assert absolute_links(text, SOURCE, "v1") == (
        f"[![CI]({SOURCE}/raw/v1/a.svg)]({SOURCE}/blob/v1/docs/ci.md)"
        " [here](#here) [there](https://there.example)"
    )


def test_only_a_known_source_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    metadata: dict[str, Any] = {"version": "1"}
    hook = PackageMetadata(str(ROOT), {})
    monkeypatch.setenv("SOURCE_URL", "")
    hook.update(metadata)
    assert metadata["urls"] == {}
    assert metadata["readme"]["text"] == (ROOT / "README.md").read_text(encoding="utf-8")
    monkeypatch.setenv("SOURCE_URL", f"{SOURCE}/")
    hook.update(metadata)
    assert metadata["urls"]["Source"] == SOURCE
    assert f"]({SOURCE}/blob/v1/docs/method.md)" in metadata["readme"]["text"]


def test_the_citation_names_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall("^version: (.*)", citation, re.MULTILINE) == [atp.__version__]
