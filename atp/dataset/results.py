"""The result file: the input as it was, plus `atp_analysis` on each pair and `metadata.atp`.

An `atp_analysis` that the input brought along is left out: it is of another run.
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
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from atp.dataset.journal import Analysis, Journal

    Analysed = tuple[Any, dict[int, list[Analysis]]]
    """A question without analyses, and those of its variations, one for each SAE."""

LAYOUT = 2.5
"""By how much line breaks and blanks lengthen an analysis."""

INT64 = range(-(2**63), 2**64)


def _exact(value: Any) -> Any:  # noqa: ANN401  (any JSON value)
    """Return a JSON value in which orjson finds every number with its exact digits.

    orjson knows neither Decimal nor integers beyond 64 bits; as fragments they pass through.
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
    """Return `value` as JSON text.

    Args:
        value: any JSON value.
        indent: the level it stands at, for two blanks a level; None for a single line.
    """
    return _text(_exact(value), indent)


def _text(exact: Any, indent: int | None) -> bytes:  # noqa: ANN401
    """Return what `_exact` has made ready as JSON text."""
    if indent is None:
        return orjson.dumps(exact)
    text = orjson.dumps(exact, option=orjson.OPT_INDENT_2)
    return text.replace(b"\n", b"\n" + b"  " * indent)  # inside strings, newlines are escaped


def write_results(
    scan: InputScan,
    journal: Journal,
    paths: Sequence[Path],
    metadata: Sequence[dict[str, Any]],
) -> None:
    """Write one result file for each SAE.

    Args:
        scan: the input.
        journal: the analyses so far; a pair without one is written as it came.
        paths: the files to write, in the journal's order of SAEs.
        metadata: `metadata.atp` of each file.

    Raises:
        SaveError: a file cannot be written.
        InputError: the input can no longer be read, or was changed.
    """
    check_unchanged(scan)
    size = expected_bytes(scan, journal.size / len(paths))
    with ExitStack() as stack:
        files = [stack.enter_context(atomic_write(path, size)) for path in paths]
        found = _analysed(scan, journal)
        write_all(files, scan.envelope, found, metadata, indented=scan.indented)


def write_all(
    files: Sequence[IO[bytes]],
    envelope: Iterable[tuple[str, Any]],
    found: Iterable[Analysed],
    metadata: Sequence[dict[str, Any]],
    *,
    indented: bool,
) -> None:
    """Write the content of one result file for each SAE.

    Args:
        files: to write to.
        envelope: the top-level fields of the input, in order.
        found: its questions, with what was found of each.
        metadata: `metadata.atp` of each file.
        indented: whether questions are laid out over lines.
    """
    fields = list(envelope)
    if "metadata" not in dict(fields):
        fields.insert(0, ("metadata", {}))
    for number, (key, value) in enumerate(fields):
        opening = (b"{\n  " if number == 0 else b",\n  ") + orjson.dumps(key) + b": "
        if key == "results":
            for file in files:
                file.write(opening)
            _write_questions(found, files, 2 if indented else None)
            continue
        for file, entry in zip(files, metadata, strict=True):
            content = {**value, "atp": entry} if key == "metadata" else value
            layout = 1 if indented or key == "metadata" else None
            file.write(opening + to_json(content, layout))
    for file in files:
        file.write(b"\n}\n")


def expected_bytes(scan: InputScan, journalled: float) -> int:
    """Return about how many bytes a result file has.

    Args:
        scan: the input.
        journalled: bytes of its analyses in the journal, which holds them without layout.
    """
    return scan.size + round(journalled * (LAYOUT if scan.indented else 1))


def _analysed(scan: InputScan, journal: Journal) -> Iterator[Analysed]:
    for index, question in enumerate(questions(scan.path)):
        found = {
            number: analyses
            for number in range(len(question["variations"]))
            if (analyses := journal.analyses(PairKey(index, number))) is not None
        }
        for variation in question["variations"]:
            variation.pop("atp_analysis", None)  # of an earlier run, perhaps with another model
        yield question, found


def _write_questions(
    analysed: Iterable[Analysed], files: Sequence[IO[bytes]], layout: int | None
) -> None:
    separator = b"[\n    "
    for question, found in analysed:
        exact = _exact(question)  # once, and not the analyses, which are many
        plain = None if found else separator + _text(exact, layout)
        for which, file in enumerate(files):
            for number, analyses in found.items():
                exact["variations"][number]["atp_analysis"] = analyses[which]
            file.write(plain or separator + _text(exact, layout))
        separator = b",\n    "
    for file in files:
        file.write(b"[]" if separator.startswith(b"[") else b"\n  ]")
