"""Reports as a user makes them: runs of tiny models, and the pages of their results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runs import read, write

from atp.cli.main import main
from atp.errors import ExitCode

QUICK = "--resamples=100"


@dataclass(frozen=True)
class Shown:
    """A page, and the files that it shows."""

    page: Path
    result: Path
    intervention: Path


def command(*arguments: object, code: ExitCode = ExitCode.OK) -> None:
    """Run a command of atp in this process."""
    assert main([*map(str, arguments), "--quiet"]) == code


def scored(
    folder: Path,
    questions: list[dict[str, Any]],
    *options: object,
    code: ExitCode = ExitCode.OK,
) -> Path:
    """Run atp over questions, and return its result."""
    folder.mkdir(parents=True)
    source = write(folder / "input.json", questions)
    command("run", source, *options, f"--out={folder}", "--device=cpu", code=code)
    (result,) = folder.glob("atp_results_*.json")
    return result


def page(path: Path, *results: Path, options: tuple[object, ...] = ()) -> Path:
    """Write the report of results, and return it."""
    command("report", *results, QUICK, *options, f"--out={path}")
    return path


def pairs(result: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the base variation of each pair of a result, and its own, in order."""
    for question in read(result)["results"]:
        base, *others = question["variations"]
        for variation in others:
            yield base, variation


def of_an_old_version(result: Path, path: Path) -> Path:
    """Write a result without what later versions of atp added to it."""
    content = read(result)
    for name in ("exact", "means", "source_sha256"):
        content["metadata"]["atp"].pop(name, None)
    for question in content["results"]:
        for variation in question["variations"]:
            analysis = variation.get("atp_analysis", {})
            for name in ("prompt_activations", "prompt_tokens"):
                analysis.pop(name, None)
            analysis.get("diagnostics", {}).pop("exact", None)
            for listed in analysis.get("top_features", ()):
                for name in ("relative_size", "effect", "ranked_by", "token_scores"):
                    listed.pop(name, None)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path
