"""The benchmark of the big shape needs a GPU; with a tiny shape, all of it runs on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gemma2_9b.py"
SECTIONS = ["rate", "compare", "wide", "memory", "scale", "dtype"]


@pytest.mark.slow
def test_every_section_runs_and_names_unmeasured_figures(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--size=tiny", "--device=cpu", "--rounds=1", f"--out={out}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text(encoding="utf-8"))
    found = figures["sections"]
    assert list(found) == SECTIONS
    assert figures["machine"]["device"] == "cpu"
    for name in SECTIONS:
        assert f"\n## {name}, " in done.stdout

    tables = {name: list(section["tables"].values()) for name, section in found.items()}
    assert found["rate"]["flops_per_second"] > 0
    beside = found["compare"]["beside_the_notebook"]
    assert beside["input"]["pairs"] == figures["size"]["notebook_pairs"]
    assert [row["procedure"] for row in tables["compare"][0]] == ["atp", "passes", "bare"]
    assert all(row["model flops used"] > 0 for row in tables["compare"][0])
    assert found["wide"]["same"] is True
    assert [row["SAEs"] for row in tables["wide"][0]] == ["resident", "offloaded"]
    assert all(row["complete"] for row in tables["wide"][0])
    for row in tables["memory"][0]:
        scored, of = row["scored"].split(" of ")
        assert scored == of
        assert row["peak bytes"] == "unmeasured"
    assert [row["pairs"] for row in tables["scale"][0]] == [12, 120]
    assert all(row["complete"] for row in tables["scale"][0])
    (logits,), of_saes = tables["dtype"]
    assert 0 < logits["largest difference"] < 0.1
    assert all(row["mean overlap"] > 0.8 for row in of_saes)
