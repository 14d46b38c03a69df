"""What features stand for, in words: the user's own labels, or explanations from Neuronpedia.

    JSON    {"515": "agreement"}, of several SAEs {"layer20-16k": {"515": "agreement"}}
    CSV     the columns feature and label, of several SAEs also sae
    Neuronpedia's data sets
            JSON Lines, or a JSON list, of objects with modelId, layer (the SAE's id there), index
            and description; or the folder of an SAE, which holds its explanations in batches

Each file may be compressed (.gz). Of several labels of a feature, the first counts.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast

import orjson

from atp.dataset.source import BYTE_ORDER_MARK, is_lines
from atp.errors import InputError, did_you_mean
from atp.model.dictionaries.names import neuronpedia_page
from atp.model.dictionaries.registry import NEURONPEDIA
from atp.report.result_contents import label_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    Label = tuple[str | None, str, str]
    """The name of an SAE, if there is one; a feature; its label."""

BATCHES = "batch-*.jsonl*"  # of a folder of Neuronpedia's data sets
EXPLANATION = {"modelId": str, "layer": str, "index": str | int, "description": str}
FORMS = 'Write {"515": "label"}, or a CSV file with the columns feature and label.'
MAX_SHOWN, LONGEST_SHOWN = 5, 40  # names in a message, characters of a feature in it


def read_labels(path: Path, saes: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, str]]:
    """Return the labels of each SAE's features, by the SAE's number in `saes` and the feature's id.

    Labels of other SAEs are left out, if there are some of these.

    Args:
        path: a file, or a folder of Neuronpedia's.
        saes: as in `metadata.atp.sae`; they may be called by name, short name, hook point or page.

    Raises:
        InputError: the file cannot be read, is of other SAEs, or names what is no feature.
    """
    named = _names(saes)
    found: dict[int, dict[str, str]] = {}
    others: dict[str | None, None] = {}
    for sae, feature, label in _labels(path):
        numbers = named.get(sae, [])
        if not numbers:
            others[sae] = None
        elif len({_identity(saes[number]) for number in numbers}) > 1:
            called = f"the name {sae!r} fits" if sae else "it names no SAE, and the results are of"
            specs = _listed(saes[number]["spec"] for number in numbers)
            msg = f"{path}: {called} several: {specs}."
            raise InputError(msg, 'Write {"SAE": {"515": "label"}}, with one of these names.')
        for number in numbers:
            known = _feature(path, feature, saes[number])
            if label.strip():
                found.setdefault(number, {}).setdefault(known, label.strip())
    if others and not found:
        names = [name for name in named if name is not None]
        msg = f"{path} has labels of {_listed(map(str, others))}, which is no SAE of the results."
        near = did_you_mean(str(next(iter(others))), names)
        raise InputError(msg, near or f"The results are of {_listed(names)}.")
    return found


def _names(saes: Sequence[Mapping[str, Any]]) -> dict[str | None, list[int]]:
    """Return the numbers of the SAEs that a name stands for; None stands for all."""
    named: dict[str | None, list[int]] = {None: [*range(len(saes))]}
    for number, sae in enumerate(saes):
        page = neuronpedia_page(sae["spec"], sae.get("path"))
        names = [sae["spec"], label_of(sae), sae["hook_name"]]
        names += [page.removeprefix(f"{NEURONPEDIA}/")] if page else []
        for name in dict.fromkeys(names):
            named.setdefault(name, []).append(number)
    return named


def _identity(sae: Mapping[str, Any]) -> tuple[str, str]:
    return sae["hook_name"], sae["sha256"]


def _feature(path: Path, feature: str, sae: Mapping[str, Any]) -> str:
    """Return a feature's id as results have it."""
    digits = feature.strip()
    if not (digits.isascii() and digits.isdigit() and int(digits) < sae["d_sae"]):
        msg = f"{path}: {feature[:LONGEST_SHOWN]!r} is no feature of {sae['spec']}, "
        msg += f"which has 0 to {sae['d_sae'] - 1:,}."
        raise InputError(msg, "Mend it, or name the labels of this SAE.")
    return str(int(digits))


def _labels(path: Path) -> Iterator[Label]:
    """Yield the labels of a file or of the files in a folder."""
    if not path.is_dir():
        yield from _of_file(path)
        return
    files = sorted({*path.glob(BATCHES), *path.glob(f"explanations/{BATCHES}")})
    if not files:
        msg = f"{path} holds no {BATCHES}, as the folders of Neuronpedia's explanations do."
        raise InputError(msg, "Name a file of labels.")
    for file in files:
        yield from _of_file(file)


def _of_file(path: Path) -> Iterator[Label]:
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    with _opened(path) as file:
        if plain.suffix.lower() == ".csv":
            yield from _of_table(path, file)
        elif is_lines(plain):
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _explanation(f"{path}, line {number}", _parsed(line, number))
        else:
            yield from _of_json(path, _parsed(file.read(), 1))


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, and say in one line what hinders reading it."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield cast("IO[bytes]", file)
    except (OSError, EOFError, zlib.error, csv.Error, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        msg = f"{path} cannot be read: {reason}."
        raise InputError(msg, FORMS) from error


def _parsed(text: bytes, line: int) -> Any:  # noqa: ANN401  (JSON)
    try:
        return orjson.loads(text.removeprefix(BYTE_ORDER_MARK))
    except orjson.JSONDecodeError as error:
        place = f"line {line + error.lineno - 1}, column {error.colno}"
        msg = f"{place} is no JSON ({error.msg})"
        raise ValueError(msg) from error


def _of_table(path: Path, file: IO[bytes]) -> Iterator[Label]:
    rows = csv.DictReader(codecs.iterdecode(file, "utf-8-sig"), strict=True)
    missing = {"feature", "label"} - {*(rows.fieldnames or ())}
    if missing:
        msg = f"{path} has no column {' and no column '.join(sorted(missing))}."
        raise InputError(msg, "Its first line names the columns: feature,label.")
    for row in rows:
        if None in row:  # DictReader's name for what has no column
            msg = f"{path}, line {rows.line_num}, has more values than its first line has columns."
            raise InputError(msg, 'Put quotation marks around a label with commas: 515,"a, b".')
        yield row.get("sae") or None, row["feature"] or "", row["label"] or ""


def _of_json(path: Path, content: Any) -> Iterator[Label]:  # noqa: ANN401  (JSON)
    if isinstance(content, list):
        for number, item in enumerate(content, start=1):
            yield _explanation(f"{path}, item {number}", item)
        return
    if not isinstance(content, dict):
        msg = f"{path} holds neither an object nor a list."
        raise InputError(msg, FORMS)
    for name, value in content.items():
        of_sae = isinstance(value, dict)
        for feature, label in value.items() if of_sae else [(name, value)]:
            if not isinstance(label, str):
                msg = f"{path}: the label of {feature!r} is no text."
                raise InputError(msg, FORMS)
            yield name if of_sae else None, feature, label


def _explanation(place: str, item: Any) -> Label:  # noqa: ANN401  (JSON)
    """Return an explanation of Neuronpedia as a label."""
    if not isinstance(item, dict) or not all(
        isinstance(item.get(key), kind) for key, kind in EXPLANATION.items()
    ):
        msg = f"{place}: an explanation of Neuronpedia has {', '.join(EXPLANATION)}."
        raise InputError(msg, FORMS)
    return f"{item['modelId']}/{item['layer']}", str(item["index"]), item["description"]


def _listed(names: Iterable[str]) -> str:
    each = list(dict.fromkeys(names))
    return ", ".join(each[:MAX_SHOWN]) + (" ..." if len(each) > MAX_SHOWN else "")
