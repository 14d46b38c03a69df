"""What a page holds, read back without the page's own scripts."""

from __future__ import annotations

import gzip
import json
import re
import struct
from base64 import b64decode
from pathlib import Path
from typing import Any

CODES = {"f8": "d", "f4": "f", "u4": "I", "u2": "H", "u1": "B"}


def table(block: str) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Return the columns of a table, texts for codes, and its header."""
    content = gzip.decompress(b64decode(block))
    (length,) = struct.unpack_from("<I", content)
    header = json.loads(content[4 : 4 + length])
    columns = {}
    for column in header["columns"]:
        layout = f"<{column['length']}{CODES[column['type']]}"
        numbers = list(struct.unpack_from(layout, content, 4 + length + column["offset"]))
        values = column.get("values")
        columns[column["name"]] = [values[n] for n in numbers] if values else numbers
    return columns, header


def json_of(block: str) -> Any:
    """Return the value of a block of JSON."""
    return json.loads(gzip.decompress(b64decode(block)))


def overview_and_blocks(page: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the overview and the blocks of a page."""
    html = page.read_text(encoding="utf-8")
    elements = re.findall(r'<script type="([^"]+)" id="([^"]+)">(.*?)</script>', html, re.DOTALL)
    (overview,) = [json.loads(text) for _, name, text in elements if name == "overview"]
    blocks = {name: text for kind, name, text in elements if kind == "text/plain"}
    return overview, blocks
