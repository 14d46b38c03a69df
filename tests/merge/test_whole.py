"""Whichever shard has a pair, the whole is the same; and memory does not grow with the files."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up_results import of_all, result, scored, source, without_places

from atp.config.shard import Shard
from atp.errors import ExitCode
from atp.merge.command import merge

FATES: list[dict[str, Any]] = [
    {"skipped": "Empty response", "details": {}},
    {"error": "OOM", "details": {"message": "é", "free_bytes": 2**40}},
]

MERGE = """
import resource, sys
from pathlib import Path
from atp.merge.command import merge

merge([Path(sys.argv[1])], Path(sys.argv[1]) / "out")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the property test, whose examples share one fixture."""
    return tmp_path_factory.mktemp("scratch")


@pytest.mark.slow
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_whole_is_the_same_whoever_has_which_pair(scratch: Path, data: st.DataObject) -> None:
    numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
    outcome_counts = st.one_of(numbers.map(scored), st.sampled_from(FATES))
    path = source(scratch)
    found = dict(
        zip(of_all(path), data.draw(st.lists(outcome_counts, min_size=8, max_size=8)), strict=True)
    )
    count = data.draw(st.integers(1, 5))
    owners = data.draw(st.lists(st.integers(0, count - 1), min_size=8, max_size=8))
    folder = Path(str(random.getrandbits(64)))
    parts = [
        result(
            scratch / folder / str(index),
            path,
            {
                key: analysis if owner == index else {"elsewhere": f"{owner}/{count}"}
                for (key, analysis), owner in zip(found.items(), owners, strict=True)
            },
            Shard(index, count),
        )
        for index in range(count)
    ]

    code, (file,) = merge(parts, scratch / folder / "out")

    assert without_places(file) == without_places(result(scratch / folder / "whole", path, found))
    failed = any("error" in analysis for analysis in found.values())
    assert code == (ExitCode.PAIRS_FAILED if failed else ExitCode.OK)


def large_shards(folder: Path, count: int) -> Path:
    """Write two shards of `count` questions of about 150 KB each; return their folder."""
    rng = random.Random(0)  # noqa: S311  (numbers to fill a file)
    question = {
        "variations": [
            {"prompt": "p", "response": "a"},
            {"prompt": "p", "response": "b", "sycophancy_flag": 1, "template_type": "I wrote"},
        ],
        "sae_activations": [rng.gauss(0, 1) for _ in range(5000)],
        "notes": "é, " * 12000,
    }
    folder.mkdir()
    path = folder / "input.json"
    text = json.dumps(question, ensure_ascii=False)
    path.write_text('{"results": [' + ", ".join([text] * count) + "]}", encoding="utf-8")
    for part in (Shard(0, 2), Shard(1, 2)):
        analyses = {
            key: analysis if part.does(number) else {"elsewhere": str(part.owner(number))}
            for number, (key, analysis) in enumerate(of_all(path).items())
        }
        result(folder / str(part.index), path, analyses, part)
    return folder


def peak_mib(folder: Path) -> int:
    """Return the peak memory of a process that merges what is in a folder, in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", MERGE, str(folder)], capture_output=True, text=True, check=True
    )
    return int(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_shards_twenty_times_as_large_take_no_more_memory(tmp_path: Path) -> None:
    small, large = large_shards(tmp_path / "small", 10), large_shards(tmp_path / "large", 200)
    assert sum(path.stat().st_size for path in large.glob("?/*.json")) > 50e6
    assert peak_mib(large) - peak_mib(small) <= 8
