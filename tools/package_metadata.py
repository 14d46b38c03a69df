"""The parts of the package's metadata that depend on the place of the source code.

Hatchling calls this hook when it builds atp. With SOURCE_URL (https://github.com/OWNER/NAME) in the
environment, the metadata name it, and the links of the README become absolute, as a package index
needs them. The repository itself does not know where it is published.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class PackageMetadata(MetadataHookInterface):
    """Sets `readme` and `urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add both to the metadata of pyproject.toml."""
        source = os.environ.get("SOURCE_URL", "").rstrip("/")
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["urls"] = {}
        if source:
            tag = f"v{metadata['version']}"
            text = absolute_links(text, source, tag)
            metadata["urls"] = {
                "Source": source,
                "Documentation": f"{source}/tree/{tag}/docs",
                "Changelog": f"{source}/blob/{tag}/CHANGELOG.md",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def absolute_links(markdown: str, source: str, tag: str) -> str:
    """Return a Markdown text whose links to files of the repository are absolute."""
    relative = r"\]\((?![a-z]+:|#)"
    images = re.sub(rf"(!\[[^\]]*){relative}", rf"\1]({source}/raw/{tag}/", markdown)
    return re.sub(relative, f"]({source}/blob/{tag}/", images)
