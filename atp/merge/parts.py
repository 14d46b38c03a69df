"""Which result files of shards are taken, which belong together, and whether one is missing."""

from __future__ import annotations

import hashlib
from operator import attrgetter
from typing import TYPE_CHECKING

from atp.config.sae_choice import CHOICES
from atp.config.shard import Shard
from atp.dataset.result_files import first_difference, read_result, results_in
from atp.dataset.source import opened
from atp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from atp.dataset.result_files import ResultFile

PATTERN = "atp_results_*_shard*of*_*.json"  # the names of shards' result files
MAY_DIFFER = {
    "input": {"path"},
    "model": (),
    "sae": {"spec"},
    "method": (),
    "settings": {
        *("input", "out", "model", "revision", "sae", *CHOICES, "device", "device_map"),
        *("allow_other_model", "model_dtype", "save_interval", "fresh", "shard"),
    },
    "versions": (),
    "source_sha256": (),
}
"""The parts of `metadata.atp` in which all shards of a run agree, except for the fields named here.
These are names of things, and what changes no number."""


def found_in(results: Sequence[Path]) -> tuple[list[ResultFile], list[ResultFile]]:
    """Return the named files and the last run in the folders; and the files that are left out."""
    paths = dict.fromkeys(results)
    named = [read_result(path) for path in paths if not path.is_dir()]
    folders = [path for path in paths if path.is_dir()]
    candidates = [part for folder in folders for part in results_in(folder, PATTERN, "merge")]
    for part in (*named, *candidates):
        if part.shard is None:
            msg = f"{part.path} is the result of a whole run, not of a shard."
            raise InputError(msg, "Name the results of atp run --shard=I/N.")
    newest = _newest(candidates)
    taken = [part for part in candidates if part in newest]
    return taken + named, [part for part in candidates if part not in newest]


def _newest(parts: Sequence[ResultFile]) -> set[ResultFile]:
    """Choose the last run, and of each shard and SAE its last complete file, or else the last."""
    if not parts:
        return set()
    last = max(parts, key=attrgetter("started", "path")).run
    of_run = [part for part in parts if part.run == last]
    of_run.sort(key=lambda part: (part.metadata["complete"], part.started, part.path))
    return set({(part.sae, part.shard): part for part in of_run}.values())


def groups(parts: Sequence[ResultFile], left_out: Sequence[ResultFile]) -> list[list[ResultFile]]:
    """Return the shards of each run and SAE in order; an InputError says that one is missing.

    It names a file among `parts`, or the same shard among those `left_out`, that may be meant.
    """
    by_run: dict[object, list[ResultFile]] = {}
    for part in parts:
        by_run.setdefault((part.run, part.sae), []).append(part)
    return [_in_order(group, parts, left_out) for group in by_run.values()]


def _in_order(
    group: Sequence[ResultFile], parts: Sequence[ResultFile], left_out: Sequence[ResultFile]
) -> list[ResultFile]:
    by_shard: dict[Shard | None, ResultFile] = {}
    for part in group:
        other = by_shard.setdefault(part.shard, part)
        if other is not part and _sha256(other.path) != _sha256(part.path):
            msg = f"shard {part.shard} is there twice, with different content: "
            msg += f"{other.path} and {part.path}."
            raise InputError(msg, "Name one of them.")
    count = group[0].shard_count
    shards = [Shard(index, count) for index in range(count)]
    for shard in shards:
        if shard not in by_shard:
            same = [part for part in left_out if part.shard == shard]
            raise _missing(shard, group[0], [*parts, *same])
        part = by_shard[shard]
        if not part.metadata["complete"]:
            pending = part.metadata["counts"]["pending"]
            msg = f"shard {shard} is not complete, {pending:,} pairs are left: {part.path}."
            raise InputError(msg, f"Start shard {shard} again, and merge when it is done.")
    return [by_shard[shard] for shard in shards]


def _sha256(path: Path) -> bytes:
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").digest()


def _missing(shard: Shard, first: ResultFile, parts: Sequence[ResultFile]) -> InputError:
    """Return the error for a missing shard; it names a file of another run that may be meant."""
    others = [part for part in parts if part.run != first.run]
    if not others:
        msg = f"shard {shard} of the run of {first.path} is missing."
        return InputError(msg, f"Run it with --shard={shard}, or name its result, too.")
    nearest = min(others, key=lambda part: (part.sae != first.sae, part.shard != shard))
    difference = first_difference(first, nearest, MAY_DIFFER)
    if first.shard_count != nearest.shard_count:
        difference = f"they are shards {first.shard} and {nearest.shard}"
    msg = f"{first.path} and {nearest.path} are not of the same run: "
    msg += f"{difference or 'one has other SAEs beside this one'}."
    return InputError(msg, "Run all shards with the same command, and merge only these.")
