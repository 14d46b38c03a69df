"""Makes the next item while the current one is in use."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")


def prefetch(items: Iterable[T]) -> Iterator[T]:
    """Yield items, each made in another thread while the one before it is in use.

    An error in making an item is raised when it is that item's turn.
    """
    iterator = iter(items)

    def make() -> list[T]:
        return list(islice(iterator, 1))  # empty at the end

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as pool:
        coming = pool.submit(make)
        while made := coming.result():
            coming = pool.submit(make)
            yield made[0]
