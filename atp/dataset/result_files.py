"""Reads the result files that `atp run` and `atp merge` wrote: of which run, SAE and shard."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from atp.config.shard import WHOLE, parse
from atp.dataset.input_scan import InputReader, InputScan, check_unchanged
from atp.dataset.reader import PARSER_ERRORS, broken
from atp.dataset.source import CHUNK, CheckedFile, is_lines, opened, refuse
from atp.dataset.top_level import TopLevel
from atp.errors import InputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from atp.config.shard import Shard

# Raised by code that uses a value of a result file which is not as atp writes it.
NOT_AS_WRITTEN = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    SettingsError,
)


@dataclass(eq=False)
class ResultFile:
    """A result file: its metadata, and its questions on demand."""

    path: Path
    metadata: dict[str, Any]  # its `metadata.atp`
    shard: Shard | None  # None for the result of a whole run
    started: datetime
    fingerprint: str  # of its run; for a shard, of the whole run
    sae: tuple[str, str]  # the SAE under any name: hook point and hash of the weights
    scan: InputScan  # only size and time until `questions` has come to its end

    @property
    def shard_count(self) -> int:
        """The number of shards of its run."""
        return (self.shard or WHOLE).count

    @property
    def run(self) -> tuple[str, int, int]:
        """The identity of its run: fingerprint, token budget, number of shards."""
        return self.fingerprint, self.metadata["settings"]["batch_tokens"], self.shard_count

    def questions(self) -> Iterator[Any]:
        """Yield the questions; check, count and hash the file on the way, for `scan`."""
        reader = InputReader(self.path)
        yield from reader
        check_unchanged(self.scan)
        self.scan = reader.scan


def read_result(path: Path) -> ResultFile:
    """Read a result file up to the end of its metadata, or raise an InputError."""
    with opened(path) as file:
        status = os.fstat(file.fileno())
    scan = InputScan(path, status.st_size, status.st_mtime_ns)
    try:
        return _checked(scan, metadata_of(path))
    except NOT_AS_WRITTEN as error:
        msg = f"{path} is no result of atp run."
        raise InputError(msg, "Name result files, or a folder of them.") from error


def metadata_of(path: Path) -> dict[str, Any]:
    """Return `metadata.atp` of a file that atp wrote; raise one of NOT_AS_WRITTEN, or InputError.

    Only the part of the file up to the end of its metadata is read.
    """
    with opened(path) as file:
        fields = {} if is_lines(path) else _fields(path, CheckedFile(file, path))
    metadata: dict[str, Any] = as_written(fields["metadata"]["atp"])
    return metadata


def _fields(path: Path, file: CheckedFile) -> dict[str, Any]:
    """Return the top-level fields of a JSON file up to its `metadata`, or all if it has none."""
    top_level = TopLevel(path, file, refuse)
    try:
        while "metadata" not in top_level.fields:
            if not top_level.read(CHUNK):
                top_level.finish()
                break
    except PARSER_ERRORS as error:
        raise broken(path, error) from error
    return top_level.fields


def _checked(scan: InputScan, metadata: dict[str, Any]) -> ResultFile:
    """Check the fields of `metadata.atp` that readers use; raise one of NOT_AS_WRITTEN."""
    counts, settings, sae = metadata["counts"], metadata["settings"], metadata["sae"]
    shard = None if settings.get("shard") is None else parse("shard", settings["shard"])
    whole = metadata if shard is None else metadata["unsharded"]
    started, finished = (datetime.fromisoformat(metadata[name]) for name in ("started", "finished"))
    texts = (sae["hook_name"], sae["sha256"], metadata["model"]["name"], metadata["fingerprint"])
    _check(str, *texts, whole["fingerprint"], metadata["input"]["sha256"])
    _check(int, *(counts[name] for name in ("pairs", "scored", "error", "pending")))
    _check(int, settings["batch_tokens"], metadata["input"]["bytes"])
    _check(bool, metadata["complete"])
    _check(dict, settings, sae, metadata["method"])
    named = shard is None or re.fullmatch(r"atp_results_[^/\\]+", whole["result"])
    if not named or started.tzinfo is None or finished.tzinfo is None:
        raise ValueError
    identity = (sae["hook_name"], sae["sha256"])
    return ResultFile(scan.path, metadata, shard, started, whole["fingerprint"], identity, scan)


def _check(kind: type, *values: object) -> None:
    if not all(isinstance(value, kind) for value in values):
        raise TypeError


def results_in(folder: Path, pattern: str, command: str) -> list[ResultFile]:
    """Read the result files in a folder and in the folders in it, for `atp COMMAND`."""
    paths = sorted(path for where in (pattern, f"*/{pattern}") for path in folder.glob(where))
    if not paths:
        msg = f"neither {folder} nor a folder in it holds a result, {pattern}."
        raise InputError(msg, f"Name the files, or a folder above them: atp {command} RESULT...")
    return [read_result(path) for path in paths]


def first_difference(
    first: ResultFile, second: ResultFile, may_differ: Mapping[str, Collection[str]]
) -> str | None:
    """Return the first field in which two results differ, with both values; None if there is none.

    `may_differ` names the facts of `metadata.atp` to compare, and their fields that may differ.
    """
    for fact, ignored in may_differ.items():
        one, other = first.metadata.get(fact), second.metadata.get(fact)
        values = {fact: (one, other)}
        if isinstance(one, dict) and isinstance(other, dict):
            keys = [key for key in {**one, **other} if key not in ignored]
            values = {f"{fact}.{key}": (one.get(key), other.get(key)) for key in keys}
        for name, (a, b) in values.items():
            if a != b:
                return f"{name} is {str(a)[:80]} in one and {str(b)[:80]} in the other"
    return None


def as_written(value: Any) -> Any:  # noqa: ANN401  (any JSON value)
    """Return a value that atp wrote, with floats again where the reader returns decimals."""
    if isinstance(value, dict):
        return {key: as_written(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_written(item) for item in value]
    if isinstance(value, Decimal):
        number = float(value)
        if number in {float("inf"), float("-inf")}:
            msg = f"{value} is beyond all floats"
            raise ValueError(msg)
        return number
    return value
