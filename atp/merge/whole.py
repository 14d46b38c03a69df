"""The shards of a run side by side, one question at a time: the result of the whole run.

It has the bytes that a run without shards would have written, times and paths apart.
"""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from atp.dataset.atomic import atomic_write
from atp.dataset.input_scan import check_unchanged
from atp.dataset.journal import SUFFIX, outcome
from atp.dataset.output import stamp
from atp.dataset.pairs import PairKey, pairs_of
from atp.dataset.reader import questions
from atp.dataset.result_files import NOT_AS_WRITTEN, as_written, read_result
from atp.dataset.results import write_all
from atp.dataset.source import CHUNK, opened
from atp.errors import InputError
from atp.run.metadata import RunTotals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from atp.dataset.journal import Analysis
    from atp.dataset.result_files import ResultFile
    from atp.dataset.results import Analysed

    Results = dict[int, list[tuple[ResultFile, Any]]]  # by variation: shards and their analyses

AGAIN = "Start all shards again with --fresh and the same command, and merge anew."


def read(parts: Sequence[ResultFile]) -> RunTotals:
    """Read all shards once: check and hash them, and count their pairs.

    `write` reads the questions a second time: `metadata.atp`, with the counts and means of all
    pairs, comes before them in the file. An InputError says why the shards do not make a whole.
    """
    totals = RunTotals.of_run(sharded=False)
    streams = [part.questions() for part in parts]
    for _, by_variation in _side_by_side(parts, streams):
        for (analysis,) in by_variation.values():
            totals.add(analysis)
    for stream in streams:
        deque(stream, maxlen=0)  # to the end of each file, if one holds fewer questions
    for part in parts:
        if part.scan.questions != parts[0].scan.questions:
            msg = f"{parts[0].path} holds {parts[0].scan.questions:,} questions, "
            msg += f"{part.path} {part.scan.questions:,}."
            raise InputError(msg, AGAIN)
    return totals


def place(parts: Sequence[ResultFile], out: Path) -> tuple[Path, bool]:
    """Return the file for a merged result, and whether it exists already."""
    # A run is named for its start; the result of its shards, for the start of the first one.
    time = min(part.started for part in parts)
    name = parts[0].metadata["unsharded"]["result"]
    while True:
        path = out / f"{name}_{stamp(time)}.json"
        if path.exists():
            if _is_merge_of(parts, path):
                return path, True
        elif not list(out.glob(f"*_{stamp(time)}{SUFFIX}")):  # of a run that has yet to write it
            return path, False
        time += timedelta(seconds=1)


def _is_merge_of(parts: Sequence[ResultFile], path: Path) -> bool:
    wanted = [(str(part.shard), part.scan.sha256) for part in parts]
    try:
        sources = read_result(path).metadata["merged_from"]
        return [(source["shard"], source["sha256"]) for source in sources] == wanted
    except (InputError, KeyError, TypeError):
        return False


def write(parts: Sequence[ResultFile], totals: RunTotals, path: Path) -> None:
    """Write the result of the whole run, with the totals that `read` has returned."""
    metadata = _metadata(parts, totals, path.parent)
    top_level, indented = parts[0].scan.top_level, _is_indented(parts[0])
    analysed = _side_by_side(parts, [questions(part.path) for part in parts])
    sizes = [part.scan.size for part in parts]
    repeated = (len(parts) - 1) * int(parts[0].metadata["input"]["bytes"])
    with atomic_write(path, max(*sizes, sum(sizes) - repeated)) as file:
        write_all([file], top_level, analysed, [metadata], indented=indented)
        for part in parts:  # else the counts might not be those of the pairs that are written
            check_unchanged(part.scan)


def _metadata(parts: Sequence[ResultFile], totals: RunTotals, out: Path) -> dict[str, Any]:
    first = parts[0].metadata
    of_shard = {"counts", "means", "path", "exact", "unsharded"}
    return {
        "complete": True,
        "counts": {
            "questions": parts[0].scan.questions,
            "pairs": first["counts"]["pairs"],
            **totals.counts,
            "pending": 0,
        },
        **totals.as_json(),
        **{key: value for key, value in first.items() if key not in of_shard},
        "settings": {**first["settings"], "out": str(out), "shard": None},
        "fingerprint": parts[0].fingerprint,
        "started": min(part.metadata["started"] for part in parts),
        "finished": max(part.metadata["finished"] for part in parts),
        "merged_from": [
            {"shard": str(part.shard), "path": str(part.path), "sha256": part.scan.sha256}
            for part in parts
        ],
    }


def _is_indented(part: ResultFile) -> bool:
    """Say whether a result lays its questions out over lines; reads up to the first question."""
    with opened(part.path) as file:
        while line := file.readline(CHUNK):
            if line == b'  "results": [\n':
                return file.read(6) == b"    {\n"
    return False


def _side_by_side(
    parts: Sequence[ResultFile], streams: Sequence[Iterator[Any]]
) -> Iterator[Analysed]:
    """Yield each question of the shards without analyses, and the one analysis of each pair."""
    pairs_left = parts[0].metadata["counts"]["pairs"]
    first = parts[0].path
    for index, row in enumerate(zip(*streams, strict=False)):
        results: Results = {}
        for part, question in zip(parts, row, strict=True):
            _take_analyses(question, part, results)
            if question != row[0]:
                msg = f"results[{index}] is not the same in {first} and {part.path}."
                raise InputError(msg, AGAIN)
        keys = [pair.key for pair in pairs_of(first, row[0], index)][:pairs_left]
        pairs_left -= len(keys)
        by_variation = {
            key.variation: [_only(key, first, results.pop(key.variation, []))] for key in keys
        }
        for number in results:
            msg = f"{PairKey(index, number)} has a result and is no pair: {first}."
            raise InputError(msg, AGAIN)
        yield row[0], by_variation


def _take_analyses(question: Any, part: ResultFile, results: Results) -> None:  # noqa: ANN401
    """Move the analyses of a shard's own pairs from a question to `results`."""
    for number, variation in enumerate(question["variations"]):
        if "atp_analysis" in variation:
            analysis = variation.pop("atp_analysis")
            of_variation = results.setdefault(number, [])
            other_shard = isinstance(analysis, dict) and outcome(analysis) == "elsewhere"
            if not other_shard:
                of_variation.append((part, analysis))


def _only(key: PairKey, first: Path, results: Sequence[tuple[ResultFile, Any]]) -> Analysis:
    """Return the analysis of a pair from the one shard that did it."""
    if len(results) != 1:
        where = " and ".join(str(part.path) for part, _ in results[:2])
        msg = f"{key} has a result in {where}."
        raise InputError(msg if results else f"{key} has no result in any shard of {first}.", AGAIN)
    ((part, value),) = results
    try:
        analysis: Analysis = as_written(value)
        if outcome(analysis) == "scored":
            RunTotals.of_run(sharded=False).add(analysis)
    except NOT_AS_WRITTEN as error:
        msg = f"{part.path}: the atp_analysis of {key} is not as atp writes it."
        raise InputError(msg, f"Start shard {part.shard} again with --fresh.") from error
    return analysis
