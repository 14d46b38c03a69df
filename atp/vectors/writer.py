"""VectorsWriter: keeps the captured batches of a run, and continues what an earlier start left.

Batches wait in memory until a part is full, or `save` is called: a run that is killed captures
these again. A part that is missing or damaged is dropped at the next start, and so are its pairs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import structlog

from atp.dataset.atomic import atomic_write, not_written
from atp.errors import SaveError, SettingsError
from atp.runtime.live import phase
from atp.vectors import index as index_file
from atp.vectors.files import damage_of
from atp.vectors.parts import KeyedBatch, Part, encoded, tensor_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from atp.config.run import VectorType
    from atp.dataset.journal import Analysis
    from atp.dataset.pairs import PairKey
    from atp.scoring.scorer import CapturedBatch
    from atp.vectors.index import Index
    from atp.vectors.origin import Origin

FOLDER = "atp_vectors_"  # how the name of a folder begins; then comes the name of the run
FORMAT = 1
PART_BYTES, PART_PAIRS = 64 << 20, 4096
"""A part is written as soon as it holds this much."""

log = structlog.get_logger()


@dataclass
class VectorsWriter:
    """The folder of vectors of one run, open for its process alone."""

    folder: Path
    index: Index
    origin: Origin
    vector_type: VectorType
    token_texts: Callable[[Iterable[int]], list[str]] | None = None
    """Gives the texts of tokens, where a score names each token of the prompt."""
    _kept: set[PairKey] = field(default_factory=set)
    _batches: list[KeyedBatch] = field(default_factory=list)
    _analyses: list[tuple[PairKey, Analysis]] = field(default_factory=list)
    _bytes: int = 0  # of the batches that wait

    def __post_init__(self) -> None:
        # An error without vectors is tried again, as in the journal.
        final = (key for key, found in self.index.analyses.items() if "error" not in found)
        self._kept = {*self.index.keys(), *final}

    @classmethod
    def open(
        cls,
        folder: Path,
        run: dict[str, Any],
        origin: Origin,
        vector_type: VectorType,
        token_texts: Callable[[Iterable[int]], list[str]] | None = None,
    ) -> Self:
        """Open the folder of a run, whose journal has the header `run`, or make a new one.

        A folder of other vectors raises SettingsError.
        """
        header = {"format": FORMAT, "vectors": vector_type, **origin.describe(), "run": run}
        try:
            folder.mkdir(exist_ok=True)
            for left_over in folder.glob(".*.tmp"):
                left_over.unlink(missing_ok=True)  # a killed run was writing it
            if not (folder / index_file.NAME).exists():
                index_file.create(folder, header)
            index = index_file.Index.read(folder)
        except OSError as error:
            raise not_written(folder / index_file.NAME, error, hint=index_file.HINT) from error
        found = index.header or {}
        if found != header:
            msg = f"{folder} holds {_words(found, header)}."
            raise SettingsError(msg, "Move it away: the vectors are then captured again.")
        _drop_damaged(folder, index)
        return cls(folder, index, origin, vector_type, token_texts)

    def has(self, key: PairKey) -> bool:
        """Say whether a pair needs no further try: vectors are there, or reason to have none."""
        return key in self._kept

    def holds(self, pairs: int) -> bool:
        """Say whether this many pairs, all of the run, need no further try."""
        return len(self._kept) >= pairs

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not issubclass(kind, SaveError):  # else the disk is at fault
            self.save()

    def add(self, keys: Sequence[PairKey], batch: CapturedBatch) -> None:
        """Keep a captured batch that `portable` returned; write a part if it is full.

        One that is kept already was captured again for a pair whose scoring had failed.
        """
        if all(map(self.has, keys)):
            return
        self._batches.append(KeyedBatch(tuple(keys), batch))
        self._kept.update(keys)
        tokens = sum(pair.contrast.read for pair in batch.pairs)
        self._bytes += tensor_bytes(batch) + 8 * tokens  # a token's number takes about so much text
        if self._bytes >= PART_BYTES or self._waiting >= PART_PAIRS:
            self.save()

    def add_analyses(self, analysed: Iterable[tuple[PairKey, Analysis]]) -> None:
        """Keep the analyses of pairs without vectors: skipped, of other shards, or errors."""
        for key, analysis in analysed:
            if not self.has(key) and self.index.analyses.get(key) != analysis:
                self._analyses.append((key, analysis))
                if "error" not in analysis:
                    self._kept.add(key)
        if self._waiting >= PART_PAIRS:
            self.save()

    @property
    def _waiting(self) -> int:
        return len(self._analyses) + sum(len(keyed.keys) for keyed in self._batches)

    def save(self) -> None:
        """Write all that waits in memory; it is on the disk when this returns."""
        if self._batches:
            self._write_part()
        if self._analyses:
            listed = [[list(key), analysis] for key, analysis in self._analyses]
            index_file.append(self.folder, self.index, {"analyses": listed})
            self._analyses = []

    def _write_part(self) -> None:
        weights = {
            name: each for name, each in self.origin.norm_weights.items() if each is not None
        }
        texts: dict[int, str] = {}
        if self.token_texts is not None:
            pairs = (pair for keyed in self._batches for pair in keyed.batch.pairs)
            used = {token for pair in pairs for token in pair.contrast.tokens}
            texts = dict(zip(sorted(used), self.token_texts(sorted(used)), strict=True))
        data = encoded(Part(self._batches, weights, texts))
        files = self.folder.glob("part-*.safetensors")  # one may have lost its line
        numbers = (index_file.number_of(file.name) + 1 for file in files)
        name = index_file.part_name(max(self.index.count, *numbers, 0))
        with atomic_write(self.folder / name, len(data)) as file:
            file.write(data)
        keys = [list(key) for keyed in self._batches for key in keyed.keys]
        entry = {
            "part": name,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "pairs": keys,
        }
        index_file.append(self.folder, self.index, entry)
        self._batches, self._bytes = [], 0
        log.info("vectors.saved", part=str(self.folder / name), pairs=len(keys), bytes=len(data))


def _words(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    if not found:
        return f"an {index_file.NAME} that is damaged in its first line"
    if {**found, "vectors": wanted["vectors"]} == wanted:
        return f"vectors in {found['vectors']}, --save-vectors asks for {wanted['vectors']}"
    return "the vectors of another run"


def _drop_damaged(folder: Path, index: Index) -> None:
    size = sum(part.size for part in index.parts.values())
    with phase(f"checking {folder.name}", size, unit="bytes") as line:
        for part in list(index.parts.values()):
            reason = damage_of(folder, part)
            line.advance(part.size)
            if reason is not None:
                log.warning(
                    "vectors.dropped",
                    part=str(folder / part.name),
                    pairs=len(part.keys),
                    reason=reason,
                )
                index_file.append(folder, index, {"dropped": part.name})
                (folder / part.name).unlink(missing_ok=True)
