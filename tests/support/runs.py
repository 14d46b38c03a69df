"""The files and the log of a run: tests write its input, read its result, and look at its log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from events import EVENTS, ON_ANY_LINE, ON_EVERY_LINE

TIMES = ("started", "finished")
"""The fields of `metadata.atp` in which a resumed run differs from an uninterrupted one."""

ANALYSIS_FIELDS = [
    "target_token",
    "base_token",
    "token_position",
    "logit_diff",
    "boundary",
    "target_token_id",
    "base_token_id",
    "diagnostics",
    "top_features",
]
FEATURE_FIELDS = ["id", "score", "activation", "gradient", "relative_size"]
"""The fields of an analysis and of a listed feature, in the order in which README.md shows them."""


def write(path: Path, questions: list[dict[str, Any]]) -> Path:
    """Write an input file."""
    content = {"metadata": {"model_name": "tiny"}, "results": questions}
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def read(path: str | Path) -> dict[str, Any]:
    """Read a result file."""
    content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return content


def analyses(result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the analyses of a result, in order."""
    for question in result["results"]:
        for variation in question["variations"]:
            if "atp_analysis" in variation:
                yield variation["atp_analysis"]


def without_times(path: str | Path) -> bytes:
    """Return the bytes of a result file without the lines that hold times."""
    lines = Path(path).read_bytes().splitlines()
    kept = [line for line in lines if not any(f'"{name}":'.encode() in line for name in TIMES)]
    assert len(kept) == len(lines) - len(TIMES)
    return b"\n".join(kept)


def events(stderr: str) -> list[dict[str, Any]]:
    """Return the log lines: each is a JSON object as docs/logs.md has it."""
    lines = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    assert len({line["run_id"] for line in lines}) == 1
    for line in lines:
        known = EVENTS[line["event"]]
        assert line["level"] == known.level, line
        found = line.keys() - ON_EVERY_LINE - ON_ANY_LINE
        assert known.fields - known.optional - ON_ANY_LINE <= found <= known.fields, line
    return lines


def of(event: str, log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines of one event."""
    return [line for line in log if line["event"] == event]
