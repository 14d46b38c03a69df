"""The text says for a person what the JSON object holds, and no more than fits a screen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atp.check.report import SHOWN_PROBLEMS, WIDTH, as_json, as_text, duration, size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1536 << 20, "1.5 GiB"),
        (5 << 50, "5.12e+03 TiB"),
        (None, "an unknown size"),
    ],
)
def test_sizes_have_the_unit_that_suits(count: int | None, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (600, "10 min"), (7200, "2.0 h")]
)
def test_times_have_the_unit_that_suits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_text_shows_the_first_problems_and_counts_the_others(
    tmp_path: Path, report: Callable[..., dict[str, Any]]
) -> None:
    path = tmp_path / "many.json"
    path.write_text(json.dumps({"results": list(range(SHOWN_PROBLEMS + 1234))}))

    found = report(path)
    text = as_text(found)

    assert len(found["input"]["problems"]) == SHOWN_PROBLEMS + 1234
    assert f"results[{SHOWN_PROBLEMS - 1}] is not an object." in text
    assert f"results[{SHOWN_PROBLEMS}]" not in text
    assert "... and 1,234 more" in text
    assert "A run refuses the file." in " ".join(text.split())
    assert "1,254 problems; exit code 2" in text


def test_every_part_is_there_and_lines_fit(
    mixed: Path, report: Callable[..., dict[str, Any]]
) -> None:
    found = report(mixed)
    text = as_text(found)

    titles = [line.split()[0] for line in text.splitlines() if not line.startswith(" ")]
    assert titles == [
        "input",
        "pairs",
        "tokens",
        "model",
        "SAE",
        "device",
        "hub",
        "memory",
        "disk",
        "time",
        "output",
        "result",
    ]
    long = [line for line in text.splitlines() if len(line) > WIDTH]
    assert all(" " not in line.strip() for line in long)  # nothing but a path
    assert "A run gives an error." in " ".join(text.split())
    assert json.loads(as_json(found)) == found


def test_an_earlier_run_is_described_with_its_damage() -> None:
    from atp.check.report import _earlier  # noqa: PLC0415  (one line of the whole)

    run = {
        "journal": "a.journal.jsonl",
        "model": "m",
        "shard": "1/4",
        "started": "s",
        "ended": None,
        "pairs": 1234,
        "failed": 2,
        "header_damaged": False,
        "damaged_lines": [7],
        "torn_bytes": 5,
    }

    text = _earlier(run)

    for words in (
        "shard 1/4, 1,234 pairs saved",
        "not complete",
        "2 of them",
        "lines 7",
        "cut off",
    ):
        assert words in text
    assert "complete since then" in _earlier({**run, "ended": "then"})
    assert "its run is unknown" in _earlier({**run, "header_damaged": True})
    assert "denied" in _earlier({"journal": "a", "unreadable": "denied"})
