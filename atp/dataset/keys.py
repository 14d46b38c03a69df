"""A key that stands twice in an object: a parser keeps its last value and loses the first.

Files must come out as they went in, so such a file is refused, whatever else of it could be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    Note = tuple[dict[str, Any], str]

KEEP_ONE = "Only the last value would come out again; keep one of them."
LONGEST_PLACE, LONGEST_KEY = 200, 40
"""Characters of a message."""


def once(twice: list[Note]) -> type[dict[str, Any]]:
    """Return a kind of dict that notes in `twice` itself and each key that is set a second time."""

    class Once(dict[str, Any]):
        __slots__ = ()

        def __setitem__(self, key: str, value: Any) -> None:  # noqa: ANN401  (any JSON value)
            if key in self:
                twice.append((self, key))
            dict.__setitem__(self, key, value)

    return Once


def keys_twice(value: Any, place: str, twice: list[Note]) -> list[tuple[str, str]]:  # noqa: ANN401
    """Return the place of each object in a value that has a key twice, and that key.

    Args:
        value: made of `once(twice)`.
        place: where the value stands.
        twice: loses the notes of this value; those of values that are made next stay.
    """
    found: dict[tuple[str, str], None] = {}
    last = -1
    notes: dict[int, list[tuple[int, str]]] = {}  # of each object, by its identity
    for number, (noted, key) in enumerate(twice):
        notes.setdefault(id(noted), []).append((number, key))

    def walk(value: Any, place: str) -> None:  # noqa: ANN401
        nonlocal last
        members: Iterable[tuple[str, Any]] = ()
        if isinstance(value, dict):
            members = ((f"{place}.{key}", member) for key, member in value.items())
            for number, key in notes.get(id(value), ()):
                found[place[:LONGEST_PLACE], key[:LONGEST_KEY]] = None
                last = max(last, number)
        elif isinstance(value, list):
            members = ((f"{place}[{number}]", member) for number, member in enumerate(value))
        for where, member in members:
            walk(member, where)

    if twice:
        walk(value, place)
    # Notes stand in the order of the file; an object that was lost itself is noted before the one
    # that lost it.
    del twice[: last + 1]
    return list(found)
