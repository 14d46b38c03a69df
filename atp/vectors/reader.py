"""Vectors: the vectors of a run, as its folder holds them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch

from atp.errors import InputError
from atp.vectors import index as index_file
from atp.vectors.files import damage
from atp.vectors.origin import Origin
from atp.vectors.parts import decoded
from atp.vectors.writer import FOLDER, FORMAT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from atp.dataset.pairs import PairKey
    from atp.vectors.index import Index, PartEntry
    from atp.vectors.parts import Part

AGAIN = "Start its atp run again with the same command: it captures what is missing."


@dataclass(frozen=True)
class Vectors:
    """The vectors of a run."""

    folder: Path
    index: Index

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a folder of vectors, or the newest one in a folder of results."""
        folder = path
        if not (path / index_file.NAME).is_file():
            inside = list(path.glob(f"{FOLDER}*/{index_file.NAME}"))
            if not inside:
                msg = f"{path} is no folder of vectors."
                raise InputError(msg, "Name one that atp run --save-vectors=float32 wrote.")
            folder = max(inside, key=lambda file: (file.stat().st_mtime_ns, file)).parent
        try:
            index = index_file.Index.read(folder)
        except OSError as error:
            msg = f"{folder / index_file.NAME} cannot be read: {error.strerror or error}."
            raise InputError(msg) from error
        if index.header is None:
            msg = f"{folder / index_file.NAME} is damaged in its first line."
            raise InputError(msg, "Move the folder away. " + AGAIN)
        if index.header["format"] != FORMAT:
            msg = f"{folder} has the format {index.header['format']}, this atp reads {FORMAT}."
            raise InputError(msg, "Use the version of atp that wrote it, or capture them again.")
        return cls(folder, index)

    @property
    def header(self) -> dict[str, Any]:
        """The facts of `Origin.describe`, the type of the vectors, and the run."""
        return self.index.header or {}

    @property
    def origin(self) -> Origin:
        """The model's side of the hook points; each part has the weights of the norms."""
        header = self.header
        return Origin(
            dict.fromkeys(header["points"]),
            tuple(header["read_only"]),
            header["uses_rms_norm"],
            header["n_layers"],
        )

    @property
    def run(self) -> dict[str, Any]:
        """The header of the run's journal."""
        found: dict[str, Any] = self.header["run"]
        return found

    @property
    def model(self) -> dict[str, Any]:
        """The model, as `metadata.atp` describes it."""
        found: dict[str, Any] = self.run["facts"]["model"]
        return found

    @property
    def rounded(self) -> bool:
        """Whether the vectors are less precise than those of the run."""
        return bool(self.header["vectors"] == "bfloat16" and self.model["dtype"] != "bfloat16")

    def pairs(self) -> set[PairKey]:
        """Return the pairs that have vectors, or a reason to have none."""
        return {*self.index.keys(), *self.index.analyses}

    def parts(self, wanted: Callable[[PairKey], bool]) -> Iterator[Part]:
        """Yield the parts that hold a wanted pair; one that is damaged raises InputError."""
        for entry in self.index.parts.values():
            if any(map(wanted, entry.keys)):
                yield self._read(entry)

    def _read(self, entry: PartEntry) -> Part:
        path = self.folder / entry.name
        try:
            data = path.read_bytes()
        except OSError as error:
            msg = f"{path} cannot be read: {error.strerror or error}."
            raise InputError(msg, AGAIN) from error
        reason = damage(entry, len(data), hashlib.sha256(data).hexdigest())
        if reason is not None:
            msg = f"{path} is damaged: {reason}."
            raise InputError(msg, AGAIN)
        # The run computes with vectors of its own type; its centring would round in bfloat16.
        narrowed = self.header["vectors"] == "bfloat16"
        return decoded(data, getattr(torch, self.model["dtype"]) if narrowed else None)
