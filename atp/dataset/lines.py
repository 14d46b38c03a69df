"""One JSON object a line, with a checksum: a line that a crash or a disk has altered is known.

A line is the object, its last field the CRC-32 of what stands before it:

    {"pair":[0,1],"analyses":[...],"crc32":"0a1b2c3d"}
"""

from __future__ import annotations

import re
import zlib
from typing import Any

import orjson

SEAL = re.compile(rb'(,?)"crc32":"([0-9a-f]{8})"\}\n\Z')
"""What ends a line; the comma is there unless the object is empty."""


def sealed(entry: dict[str, Any]) -> bytes:
    """Return an object as a line."""
    body = orjson.dumps(entry)[:-1]
    comma = b"," if entry else b""
    return b'%s%s"crc32":"%08x"}\n' % (body, comma, zlib.crc32(body))


def unsealed(line: bytes) -> dict[str, Any] | None:
    """Return the object on a line, or None when the line is not what was written."""
    seal = SEAL.search(line)
    if seal is None:
        return None
    body = line[: seal.start()]
    if int(seal[2], 16) != zlib.crc32(body):
        return None
    try:
        entry = orjson.loads(body + b"}")
    except orjson.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None
