"""A shard: which part of a run a process does, where several divide one input.

Every shard reads all pairs and plans all batches, as a whole run does; they are dealt out by their
running numbers. So no result depends on how many shards there are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from atp.errors import SettingsError

MOST = 512
"""Shards of a run: `atp merge` has a file of each open at a time."""


@dataclass(frozen=True)
class Shard:
    """One part of several."""

    index: int
    """Counted from 0."""
    count: int

    def __str__(self) -> str:
        """Return how the command line and the results name it."""
        return f"{self.index}/{self.count}"

    @property
    def label(self) -> str:
        """Its name as a part of file names."""
        return f"shard{self.index}of{self.count}"

    def owner(self, number: int) -> Shard:
        """Return the shard that does a batch, or a pair that needs none.

        Args:
            number: its running number over the whole input, counted from 0.
        """
        return Shard(number % self.count, self.count)

    def does(self, number: int) -> bool:
        """Say whether it is this shard."""
        return number % self.count == self.index


WHOLE = Shard(0, 1)
"""The only part of a run that is not divided."""


def parse(option: str, text: str) -> Shard:
    """Parse 0/4, the first of four shards.

    Raises:
        SettingsError: it is none.
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    if found is None:
        msg = f"{option} must be I/N, as in 0/4 for the first of four shards, not {text!r}."
        raise SettingsError(msg)
    index, count = int(found[1]), int(found[2])
    if not 1 <= count <= MOST:
        msg = f"{option} must be of 1 to {MOST} shards, not of {count}."
        raise SettingsError(msg)
    if index >= count:
        msg = f"{option} counts from 0: the last of {count} shards is {count - 1}/{count}."
        raise SettingsError(msg, f"Write 0/{count} to {count - 1}/{count}, not {text.strip()}.")
    return Shard(index, count)
