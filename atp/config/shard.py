"""A shard: the part of an input that one process scores, where several divide the input.

Every shard reads all pairs and plans all batches, as a whole run does, and takes them in turn by
number. So no result depends on the number of shards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from atp.errors import SettingsError

MOST = 512  # shards of a run: `atp merge` opens one file of each at a time


@dataclass(frozen=True)
class Shard:
    """One part of several."""

    index: int  # counted from 0
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def label(self) -> str:
        """Its name as a part of file names."""
        return f"shard{self.index}of{self.count}"

    def owner(self, number: int) -> Shard:
        """Return the owner of a batch, or of a pair in no batch; the whole input's count from 0."""
        return Shard(number % self.count, self.count)

    def does(self, number: int) -> bool:
        """Return whether this shard is the owner."""
        return self.owner(number) == self


WHOLE = Shard(0, 1)  # the only part of a run that is not divided


def parse(option: str, given: str) -> Shard:
    """Return the first of four shards for "0/4"; raise SettingsError if the text is no shard."""
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", given.strip())
    if match is None:
        msg = f"{option} must be I/N, as in 0/4 for the first of four shards, not {given!r}."
        raise SettingsError(msg)
    index, count = int(match[1]), int(match[2])
    if not 1 <= count <= MOST:
        msg = f"{option} must be of 1 to {MOST} shards, not of {count}."
        raise SettingsError(msg)
    if index >= count:
        msg = f"{option} counts from 0: the last of {count} shards is {count - 1}/{count}."
        raise SettingsError(msg, f"Write 0/{count} to {count - 1}/{count}, not {given.strip()}.")
    return Shard(index, count)
