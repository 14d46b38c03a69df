"""Data as the page reads it: typed columns or JSON, compressed, as text that is safe in HTML.

A table is a length in four bytes, a header in JSON, and the columns, each at a multiple of eight
bytes: `page/unpacking.js` reads it back. It is smaller than JSON, and a browser reads it faster.
"""

from __future__ import annotations

import gzip
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TYPES = {"float64": "f8", "float32": "f4", "uint32": "u4", "uint16": "u2", "uint8": "u1"}
"""The types of columns, little-endian, and their names in a header."""

ALIGNED = 8  # bytes: a typed array begins at a multiple of the size of its numbers


class TextColumn:
    """A column of texts that repeat: codes, and the values that they stand for."""

    def __init__(self, texts: Sequence[str | None] = ()) -> None:
        self._codes: dict[str | None, int] = {}
        self._column = [self._code(text) for text in texts]

    def append(self, text: str | None) -> None:
        """Add the text of the next row."""
        self._column.append(self._code(text))

    def _code(self, text: str | None) -> int:
        return self._codes.setdefault(text, len(self._codes))

    @property
    def codes(self) -> np.ndarray:
        """The code of each row."""
        return np.array(self._column, np.uint32)

    @property
    def texts(self) -> list[str | None]:
        """The text of each code."""
        return list(self._codes)


def table(columns: Mapping[str, np.ndarray | TextColumn], **header: object) -> str:
    """Return a table as a block; its header has the fields in `header`, too.

    Columns have one length, that of the first, but for index columns that a reader knows by name.
    """
    described, contents, offset = [], [], 0
    for name, column in columns.items():
        array = np.ascontiguousarray(column.codes if isinstance(column, TextColumn) else column)
        content = array.astype(array.dtype.newbyteorder("<")).tobytes()
        content += bytes(-len(content) % ALIGNED)
        fields = {"name": name, "type": TYPES[array.dtype.name], "offset": offset}
        fields |= {"length": len(array)}
        described.append(
            fields | ({"values": column.texts} if isinstance(column, TextColumn) else {})
        )
        contents.append(content)
        offset += len(content)
    rows = described[0]["length"]
    head = orjson.dumps({"rows": rows, "columns": described, **header})
    head += b" " * (-(len(head) + 4) % ALIGNED)
    return _compressed(b"".join([len(head).to_bytes(4, "little"), head, *contents]))


def json_block(value: Any) -> str:  # noqa: ANN401  (any JSON value)
    """Return a JSON value as a block."""
    return _compressed(orjson.dumps(value))


def _compressed(content: bytes) -> str:
    return b64encode(gzip.compress(content, mtime=0)).decode()
