"""On the demo, the check foretells the run: counts exactly, disk and memory within a fifth.

Needs the real model (`make test-demo` obtains it), so it carries the marker `demo`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from atp.cli.main import main

pytestmark = pytest.mark.demo

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "smollm2"
MODEL = ROOT / ".cache" / "models" / "SmolLM2-135M-Instruct"
RUN = """
import json, re, sys, time
from pathlib import Path
from atp.cli.main import main
began = time.monotonic()
code = main(sys.argv[1:])
status = Path("/proc/self/status").read_text()
peak = int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) << 10
print(json.dumps({"code": code, "seconds": time.monotonic() - began, "peak_bytes": peak}))
"""


def test_the_check_foretells_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = ["--chat-template", f"--model={MODEL}", f"--sae={EXAMPLE / 'sae'}", "--device=cpu"]
    options = [str(EXAMPLE / "feedback.json"), *options, f"--out={tmp_path}"]
    assert main(["check", *options, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)

    ended = subprocess.run(
        [sys.executable, "-c", RUN, "run", *options], capture_output=True, text=True, check=True
    )
    path, measured = ended.stdout.splitlines()
    took = json.loads(measured)
    counts = json.loads(Path(path).read_text(encoding="utf-8"))["metadata"]["atp"]["counts"]
    assert {name: found["pairs"][name] for name in ("scored", "skipped", "error")} == {
        "scored": 63,
        "skipped": 9,
        "error": 0,
    }
    assert (counts["scored"], counts["skipped"]) == (63, 9)
    disk, memory, time = (found["estimate"][name] for name in ("disk", "memory", "time"))
    (journal,) = tmp_path.glob("*.journal.jsonl")
    assert disk["result_bytes"] == pytest.approx(Path(path).stat().st_size, rel=0.2)
    assert disk["journal_bytes"] == pytest.approx(journal.stat().st_size, rel=0.2)
    assert memory["peak_bytes"] == pytest.approx(took["peak_bytes"], rel=0.2)
    done = re.search(r'"seconds": ([\d.]+)[^}]*"event": "run.done"', ended.stderr)
    assert done
    middle = sum(time["computing_seconds"]) / 2
    # Time is printed, not tested: it depends on what else the machine does.
    print(  # noqa: T201  (the figures, with pytest -s)
        f"the check against the run: {time['seconds']} s estimated, {took['seconds']:.1f} s taken; "
        f"computing {time['computing_seconds']} s estimated, {done[1]} s taken, "
        f"ratio of its middle {middle / float(done[1]):.2f}; "
        f"memory {memory['peak_bytes'] / took['peak_bytes']:.2f}, "
        f"result {disk['result_bytes'] / Path(path).stat().st_size:.2f}, "
        f"journal {disk['journal_bytes'] / journal.stat().st_size:.2f}"
    )
