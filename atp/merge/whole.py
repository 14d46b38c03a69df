"""The shards of a run side by side, one question at a time: the result of the whole run.

It has the bytes that a run without shards would have written, times and paths apart.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from atp.dataset.atomic import atomic_write
from atp.dataset.input_scan import check_unchanged, scan_input
from atp.dataset.journal import SUFFIX, outcome
from atp.dataset.output import stamp
from atp.dataset.pairs import PairKey, pairs_of
from atp.dataset.reader import questions
from atp.dataset.results import write_all
from atp.dataset.source import CHUNK, opened
from atp.dataset.written import as_written
from atp.errors import InputError
from atp.run.metadata import RunTotals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from atp.dataset.journal import Analysis
    from atp.merge.parts import Part

LAID_OUT = b'\n  "results": [\n    {\n'
"""Stands in a result file whose questions are laid out over lines, and only at its top level."""

ELSEWHERE = {"elsewhere": "nowhere"}
AGAIN = "Start all shards again with --fresh and the same command, and merge anew."


def write(parts: Sequence[Part], path: Path, out: Path) -> dict[str, Any]:
    """Write the result of the whole run, and return its `metadata.atp`.

    Args:
        parts: all shards of a run with one SAE, in order.
        path: the file to write.
        out: its folder, as the settings of a whole run would name it.

    Raises:
        InputError: the shards do not make a whole.
        SaveError: it cannot be written.
    """
    tally = RunTotals.of_run(sharded=False)
    for _, found in _side_by_side(parts):
        for (analysis,) in found.values():
            tally.add(analysis)
    told = _metadata(parts, tally, out)
    first = parts[0].scan
    with atomic_write(path, _expected_bytes(parts)) as file:
        write_all([file], first.top_level, _side_by_side(parts), [told], indented=_indented(parts))
        for part in parts:  # else what was counted might not be what is written
            check_unchanged(part.scan)
    return told


def place(parts: Sequence[Part], out: Path) -> tuple[Path, dict[str, Any] | None]:
    """Return the file for a merged result, and its `metadata.atp` if it is there already.

    It is named for the time at which the first shard was started, as a run is for its own start.
    """
    time = min(part.started for part in parts)
    name = parts[0].told["unsharded"]["result"]
    sources = [{key: each[key] for key in ("shard", "sha256")} for each in _sources(parts)]
    while True:
        path = out / f"{name}_{stamp(time)}.json"
        if path.exists():
            told = _told(path)
            if told is not None and _merged_from(told) == sources:
                return path, told
        elif not list(out.glob(f"*_{stamp(time)}{SUFFIX}")):  # of a run that has yet to write it
            return path, None
        time += timedelta(seconds=1)


def _told(path: Path) -> dict[str, Any] | None:
    """Return `metadata.atp` of what stands in the place of a result; None if it is none."""
    try:
        told = as_written(scan_input(path).top_level["metadata"]["atp"])
    except (InputError, KeyError, TypeError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def _merged_from(told: dict[str, Any]) -> list[dict[str, Any]] | None:
    try:
        return [{key: each[key] for key in ("shard", "sha256")} for each in told["merged_from"]]
    except (KeyError, TypeError):
        return None


def _sources(parts: Sequence[Part]) -> list[dict[str, str]]:
    return [
        {"shard": str(part.shard), "path": str(part.path), "sha256": part.scan.sha256}
        for part in parts
    ]


def _metadata(parts: Sequence[Part], tally: RunTotals, out: Path) -> dict[str, Any]:
    told = parts[0].told
    of_shard = {"counts", "means", "exact", "unsharded"}
    return {
        "complete": True,
        "counts": {
            "questions": parts[0].scan.questions,
            "pairs": told["counts"]["pairs"],
            **tally.counts,
            "pending": 0,
        },
        **tally.over_all(),
        **{key: value for key, value in told.items() if key not in of_shard},
        "settings": {**told["settings"], "out": str(out), "shard": None},
        "fingerprint": told["unsharded"]["fingerprint"],
        "started": min(part.told["started"] for part in parts),
        "finished": max(part.told["finished"] for part in parts),
        "merged_from": _sources(parts),
    }


def _expected_bytes(parts: Sequence[Part]) -> int:
    """Return about how many bytes the whole has: the input, and what each shard added to it."""
    sizes = [part.scan.size for part in parts]
    again = (len(parts) - 1) * int(parts[0].told["input"]["bytes"])
    return max(*sizes, sum(sizes) - again)


def _indented(parts: Sequence[Part]) -> bool:
    """Say whether questions are laid out over lines."""
    tail = b""
    with opened(parts[0].path) as file:
        while data := file.read(CHUNK):
            if LAID_OUT in tail + data:
                return True
            tail = data[-len(LAID_OUT) :]
    return False


def _side_by_side(parts: Sequence[Part]) -> Iterator[tuple[Any, dict[int, list[Analysis]]]]:
    """Yield each question without analyses, and the one analysis of each pair of it.

    Raises:
        InputError: the shards hold different questions, or a pair has no result, or several.
    """
    counts = [part.scan.questions for part in parts]
    for part, count in zip(parts, counts, strict=True):
        if count != counts[0]:
            msg = f"{parts[0].path} holds {counts[0]:,} questions, {part.path} {count:,}."
            raise InputError(msg, AGAIN)
    left = parts[0].told["counts"]["pairs"]
    streams = [questions(part.path) for part in parts]
    for index, row in enumerate(zip(*streams, strict=False)):  # a changed file is told at the end
        analyses = [_taken_from(question) for question in row]
        for part, question in zip(parts, row, strict=True):
            if question != row[0]:
                msg = f"results[{index}] is not the same in {parts[0].path} and {part.path}."
                raise InputError(msg, AGAIN)
        pairs = [pair.key for pair in pairs_of(parts[0].path, row[0], index)][:left]
        left -= len(pairs)
        found = {key.variation: [_only(key, parts, analyses)] for key in pairs}
        for number in {number for of_part in analyses for number in of_part} - found.keys():
            msg = f"{PairKey(index, number)} has a result and is no pair: {parts[0].path}."
            raise InputError(msg, AGAIN)
        yield row[0], found


def _taken_from(question: Any) -> dict[int, Any]:  # noqa: ANN401  (an element of `results`)
    """Take the analyses out of a question; return them by variation."""
    return {
        number: variation.pop("atp_analysis")
        for number, variation in enumerate(question["variations"])
        if "atp_analysis" in variation
    }


def _is_elsewhere(analysis: Any) -> bool:  # noqa: ANN401  (any JSON value)
    return isinstance(analysis, dict) and outcome(analysis) == "elsewhere"


def _only(key: PairKey, parts: Sequence[Part], analyses: Sequence[dict[int, Any]]) -> Analysis:
    """Return the one analysis of a pair that is not elsewhere."""
    own = [
        (part, of_part[key.variation])
        for part, of_part in zip(parts, analyses, strict=True)
        if not _is_elsewhere(of_part.get(key.variation, ELSEWHERE))
    ]
    if not own:
        msg = f"{key} has no result in any shard of {parts[0].path}."
        raise InputError(msg, AGAIN)
    if len(own) > 1:
        where = " and ".join(str(part.path) for part, _ in own[:2])
        msg = f"{key} has a result in {where}."
        raise InputError(msg, AGAIN)
    part, analysis = own[0]
    try:
        found: Analysis = as_written(analysis)
        if outcome(found) == "scored":
            RunTotals.of_run(sharded=False).add(found)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        msg = f"{part.path}: the atp_analysis of {key} is not as atp writes it."
        raise InputError(msg, f"Start shard {part.shard} again with --fresh.") from error
    return found
