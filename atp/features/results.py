"""Which result files `atp features` takes, and whether their scores may be put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atp.dataset.result_files import first_difference, read_result, results_in
from atp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from atp.dataset.result_files import ResultFile

PATTERN = "atp_results_*.json"  # the names of result files
SETTINGS = {"chat_template", "max_tokens_to_check", "top_k"}
"""Beside model and method, these decide a score, and the meaning of not being listed."""


def found_in(results: Sequence[Path]) -> tuple[list[ResultFile], list[Path]]:
    """Return the named files and the last run, all SAEs of it, in each folder; and the others."""
    taken, left_out = last_runs(results, "features")
    for result in taken:
        _check_whole(result)
    return taken, left_out


def last_runs(results: Sequence[Path], command: str) -> tuple[list[ResultFile], list[Path]]:
    """Return what `found_in` returns for `atp COMMAND`, parts of runs included."""
    taken: dict[Path, ResultFile] = {}
    left_out: list[Path] = []
    for path in dict.fromkeys(results):
        read = results_in(path, PATTERN, command) if path.is_dir() else [read_result(path)]
        candidates = [result for result in read if result.shard is None] or read
        last = max((result.started, result.run) for result in candidates)
        for result in candidates:
            if (result.started, result.run) == last:
                taken.setdefault(result.path.resolve(), result)
            else:
                left_out.append(result.path)
    return list(taken.values()), [path for path in left_out if path.resolve() not in taken]


def _check_whole(result: ResultFile) -> None:
    if result.shard is not None:
        msg = f"{result.path} is the result of shard {result.shard}, a part of a run."
        raise InputError(msg, "Put the shards together with atp merge, and name the merged result.")
    if not result.metadata["complete"]:
        pending = result.metadata["counts"]["pending"]
        msg = f"{result.path} is not complete, {pending:,} pairs are left."
        raise InputError(msg, "Start the same run again; it resumes.")


def check_alike(results: Sequence[ResultFile]) -> None:
    """Make sure that results are of one model and method; an InputError names a difference."""
    first = results[0]
    for other in results[1:]:
        settings = {*first.metadata["settings"], *other.metadata["settings"]}
        may_differ = {
            # The same weights are the same model by any name, if their hash is known.
            "model": {"device", "name"} if "sha256" in first.metadata["model"] else {"device"},
            "method": (),
            "settings": settings - SETTINGS,
        }
        difference = first_difference(first, other, may_differ)
        if difference is not None:
            msg = f"{first.path} and {other.path} cannot be put together: {difference}."
            raise InputError(msg, "Name results of one model and one method at a time.")
