"""Measures speed, memory and precision of atp on the exact shape of google/gemma-2-9b-it.

Usage:
  gemma2_9b.py [options]
  gemma2_9b.py --help

Weights, SAEs and input are random and made here; nothing is downloaded. Each section is saved in
the JSON file when it is done, and printed as a table in Markdown.

Options:
  --size=NAME          full, which needs a GPU of 80 GB, or tiny, which tests everything on a CPU
                       [default: full].
  --device=NAME        cpu, cuda or cuda:N (default: cuda where there is one, else cpu).
  --sections=LIST      The sections to measure: rate, compare, wide, memory, scale, dtype
                       [default: rate,compare,wide,memory,scale,dtype].
  --rounds=N           Rounds of each timing, of which the median counts [default: 3].
  --pairs=N            Pairs of the input (default: 145; tiny 12).
  --notebook-pairs=N   Pairs on which the notebook's procedure is timed (default: 24; tiny 4).
  --scale=LIST         Lengths of the inputs of scale, as multiples of the input [default: 10].
  --out=FILE           The JSON file [default: gemma2_9b.json].
  -h --help            Show this text.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import orjson
from docopt import docopt

from atp.bench.command import machine, table, versions
from atp.config.checks import whole_number
from atp.dataset.atomic import atomic_write
from atp.errors import AtpError, SettingsError, did_you_mean
from atp.runtime.log import configure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def main(argv: Sequence[str]) -> int:
    """Measure the sections; return 1 if one failed."""
    arguments = docopt(__doc__, list(argv))
    configure(run_id="gemma2_9b")
    os.environ["HF_HUB_OFFLINE"] = "1"
    # As atp sets it; torch reads it when CUDA starts.
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    # Not earlier: the libraries read their environment when they are imported.
    from gemma_sections import SECTIONS  # noqa: PLC0415
    from random_gemma import SIZES  # noqa: PLC0415
    from workbench import Bench  # noqa: PLC0415

    from atp.model.devices import choose_device  # noqa: PLC0415

    size = SIZES[_known("--size", arguments["--size"], SIZES)]
    sections = [_known("--sections", name, SECTIONS) for name in arguments["--sections"].split(",")]
    numbers = {
        name: whole_number(1)(name, arguments[name] or str(default))
        for name, default in {
            "--rounds": None,
            "--pairs": size.pairs,
            "--notebook-pairs": size.notebook_pairs,
        }.items()
    }
    device = choose_device(arguments["--device"])
    figures: dict[str, Any] = {
        "machine": machine(device),
        "versions": versions(),
        "size": asdict(size),
        "arguments": arguments,
        "sections": {},
    }
    print(_heading(figures), flush=True)
    with TemporaryDirectory(prefix="atp-gemma-") as folder:
        began = time.monotonic()
        bench = Bench(
            size=size,
            device=device,
            rounds=numbers["--rounds"],
            pairs=numbers["--pairs"],
            notebook_pairs=numbers["--notebook-pairs"],
            factors=tuple(
                map(partial(whole_number(1), "--scale"), arguments["--scale"].split(","))
            ),
            folder=Path(folder),
        )
        figures["weights_without_embedding"] = bench.weights
        figures["seconds_to_build"] = time.monotonic() - began
        for name in (name for name in SECTIONS if name in sections):
            began = time.monotonic()
            try:
                section = SECTIONS[name](bench)
            except Exception as error:  # noqa: BLE001  (the other sections can still be measured)
                traceback.print_exc()
                section = {"error": f"{type(error).__name__}: {error}"}
            section["seconds_taken"] = time.monotonic() - began
            figures["sections"][name] = section
            with atomic_write(Path(arguments["--out"])) as file:
                file.write(orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")
            print(_report(name, section), flush=True)
            bench.free()
    return int(any("error" in section for section in figures["sections"].values()))


def _known(option: str, name: str, known: Mapping[str, object]) -> str:
    if name not in known:
        msg = f"{option} accepts {', '.join(known)}, not {name!r}."
        raise SettingsError(msg, did_you_mean(name, known))
    return name


def _heading(figures: Mapping[str, Any]) -> str:
    named = {**figures["machine"], **figures["versions"]}
    size = figures["arguments"]["--size"]
    return f"{size} size; " + ", ".join(f"{name} {value}" for name, value in named.items())


def _report(name: str, section: Mapping[str, Any]) -> str:
    parts = [f"\n## {name}, {section['seconds_taken']:.0f} s"]
    if "error" in section:
        parts.append(f"failed: {section['error']}")
    if "beside_the_notebook" in section:
        parts.append(table(section["beside_the_notebook"]))
    for title, rows in section.get("tables", {}).items():
        parts += [title] * bool(title) + [_markdown(rows)]
    return "\n\n".join(parts)


def _markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [[column.replace("bytes", "GiB") for column in columns], ["---"] * len(columns)]
    lines += [[_cell(column, row.get(column)) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(column: str, value: Any) -> str:  # noqa: ANN401  (a JSON value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if column.endswith("bytes") and isinstance(value, int):
        return f"{value / 2**30:.2f}"
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AtpError as error:
        sys.exit(f"gemma2_9b.py: {error}")
