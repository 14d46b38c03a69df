"""Writes result files: the input as it was, plus `atp_analysis` on each pair and `metadata.atp`.

Input and journal are streamed, one question at a time, into one file for each SAE; each file
appears whole or not at all.
"""

from __future__ import annotations

from contextlib import ExitStack
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

import orjson

from atp.dataset.atomic import atomic_write
from atp.dataset.input_scan import InputScan, check_unchanged
from atp.dataset.pairs import PairKey
from atp.dataset.reader import questions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from atp.dataset.journal import Analysis, Journal

    Analysed = tuple[Any, dict[int, list[Analysis]]]
    """A question without analyses; and by variation its analyses, one for each SAE."""

LAYOUT = 2.5  # the factor by which line breaks and blanks lengthen an analysis of the journal
INT64 = range(-(2**63), 2**64)


def _exact(value: Any) -> Any:  # noqa: ANN401  (any JSON value)
    """Return a JSON value from which orjson writes every number with its exact digits.

    orjson writes neither Decimal nor integers beyond 64 bits; as fragments they pass through.
    """
    if isinstance(value, dict):
        return {key: _exact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_exact(item) for item in value]
    if isinstance(value, Decimal):
        text = str(value)
        is_whole = text.lstrip("-").isdigit()  # 1e0: without exponent it would turn into an int
        return orjson.Fragment(text + "E+0" if is_whole else text)
    if isinstance(value, int) and not isinstance(value, bool) and value not in INT64:
        return orjson.Fragment(str(value))
    return value


def to_json(value: Any, indent: int | None = 0) -> bytes:  # noqa: ANN401
    """Return a JSON value as text: indented from level `indent` on, or None for a single line."""
    return _text(_exact(value), indent)


def _text(exact: Any, indent: int | None) -> bytes:  # noqa: ANN401
    if indent is None:
        return orjson.dumps(exact)
    text = orjson.dumps(exact, option=orjson.OPT_INDENT_2)
    return text.replace(b"\n", b"\n" + b"  " * indent)  # inside strings, newlines are escaped


def write_results(
    scan: InputScan, journal: Journal, paths: Sequence[Path], metadata: Sequence[dict[str, Any]]
) -> None:
    """Write one result file for each SAE; a pair without analyses stays as it is in the input."""
    check_unchanged(scan)
    layout = LAYOUT if scan.indented else 1
    size = scan.size + round(journal.size / len(paths) * layout)
    with ExitStack() as stack:
        files = [stack.enter_context(atomic_write(path, size)) for path in paths]
        analysed = _analysed(scan, journal)
        write_all(files, scan.top_level, analysed, metadata, indented=scan.indented)


def write_all(
    files: Sequence[IO[bytes]],
    top_level: Mapping[str, Any],
    analysed: Iterable[Analysed],
    metadata: Sequence[dict[str, Any]],
    *,
    indented: bool,  # the questions are laid out over lines
) -> None:
    """Write the content of one result file for each SAE, with its `metadata.atp`."""
    fields = top_level if "metadata" in top_level else {"metadata": {}, **top_level}
    for number, (key, value) in enumerate(fields.items()):
        opening = (b"{\n  " if number == 0 else b",\n  ") + orjson.dumps(key) + b": "
        if key == "results":
            for file in files:
                file.write(opening)
            _write_questions(analysed, files, 2 if indented else None)
            continue
        for file, entry in zip(files, metadata, strict=True):
            content = {**value, "atp": entry} if key == "metadata" else value
            layout = 1 if indented or key == "metadata" else None
            file.write(opening + to_json(content, layout))
    for file in files:
        file.write(b"\n}\n")


def _analysed(scan: InputScan, journal: Journal) -> Iterator[Analysed]:
    for index, question in enumerate(questions(scan.path)):
        by_variation = {}
        for number, variation in enumerate(question["variations"]):
            variation.pop("atp_analysis", None)  # of an earlier run, perhaps with another model
            analyses = journal.analyses(PairKey(index, number))
            if analyses is not None:
                by_variation[number] = analyses
        yield question, by_variation


def _write_questions(
    analysed: Iterable[Analysed], files: Sequence[IO[bytes]], layout: int | None
) -> None:
    separator = b"[\n    "
    for question, by_variation in analysed:
        exact = _exact(question)  # once for all files, and without the analyses, which are many
        plain = None if by_variation else separator + _text(exact, layout)
        for which, file in enumerate(files):
            for number, analyses in by_variation.items():
                exact["variations"][number]["atp_analysis"] = analyses[which]
            file.write(plain or separator + _text(exact, layout))
        separator = b",\n    "
    for file in files:
        file.write(b"[]" if separator.startswith(b"[") else b"\n  ]")
