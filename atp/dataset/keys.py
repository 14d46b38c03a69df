"""A key that stands twice in an object: a parser keeps its last value and loses the first.

Files must come out as they went in, so such a file is refused, whatever else of it could be read.
"""

from __future__ import annotations

from typing import Any

KEEP_ONE = "Only the last value would come out again; keep one of them."
LONGEST_KEY = 40
"""Characters of a message."""


def once(twice: list[str]) -> type[dict[str, Any]]:
    """Return a kind of dict that notes in `twice` each key that is set a second time."""

    class Once(dict[str, Any]):
        __slots__ = ()

        def __setitem__(self, key: str, value: Any) -> None:  # noqa: ANN401  (any JSON value)
            if key in self:
                twice.append(key)
            dict.__setitem__(self, key, value)

    return Once
