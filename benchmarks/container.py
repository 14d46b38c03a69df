"""Measures the container image: its size, the time of a start, and the time of a stop.

Usage:
  container.py [IMAGE] [--engine=NAME] [--starts=N] [--stops=N]
  container.py --help

Options:
  --engine=NAME  docker or podman [default: docker].
  --starts=N     how often to start it [default: 9].
  --stops=N      how often to stop it [default: 5].

IMAGE is `atp` by default. The demo is mounted and runs on the CPU (`make model` first). Times
include the engine's own work: from `run` to the first line of the log, and from `stop` to the end
of that command, at moments spread over the batches of a run.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from docopt import docopt

ROOT = Path(__file__).parent.parent
DEMO = (
    *("run", "/repository/examples/smollm2/feedback.json", "--chat-template", "--device=cpu"),
    "--model=/repository/.cache/models/SmolLM2-135M-Instruct",
    "--sae=/repository/examples/smollm2/sae",
    "--batch-tokens=500",
)
NAME = "atp-measured"
WEIGH = """
import csv, json, os, pathlib
(site,) = pathlib.Path("/opt/atp/lib").glob("python3*/site-packages")
wheels = {
    os.path.normpath(site / row[0])
    for record in site.glob("*.dist-info/RECORD") if not record.parent.name.startswith("atp_")
    for row in csv.reader(record.open())
}
sizes = {str(f): f.lstat().st_size for f in pathlib.Path("/opt/atp").rglob("*") if f.is_file()}
print(json.dumps({
    "of the locked wheels": sum(size for name, size in sizes.items() if name in wheels),
    "bytecode, atp, the environment": sum(s for name, s in sizes.items() if name not in wheels),
}))
"""


def main() -> None:
    """Print all measurements."""
    options = docopt(__doc__)
    engine, image = options["--engine"], options["IMAGE"] or "atp"
    weigh(engine, image)
    with TemporaryDirectory() as folder:
        volume = Path(folder)
        volume.chmod(0o777)
        command = [
            *(engine, "run", "--rm", "--name", NAME, "--network=none"),
            *(f"--volume={ROOT}:/repository:ro", f"--volume={volume}:/data", image),
        ]
        idle = [first_line(command) for _ in range(int(options["--starts"]))]
        print(f"`run` to the first line, nothing to do: {summary(idle)}")
        run = [first_line([*command, *DEMO], stop=engine) for _ in range(int(options["--starts"]))]
        print(f"`run` to the first line, a run: {summary(run)}")
        stops = [
            stopped(engine, [*command, *DEMO, f"--out=/data/{number}"], after=1 + 2 * number)
            for number in range(int(options["--stops"]))
        ]
        print(f"`stop` in mid-run to its end: {summary(stops)}")


def weigh(engine: str, image: str) -> None:
    """Print the size of the image, by part."""
    about: dict[str, Any] = json.loads(_output(engine, "image", "inspect", image))[0]
    parts = json.loads(
        _output(
            *(engine, "run", "--rm", "--network=none", "--user=0:0"),
            *("--entrypoint=/opt/atp/bin/python", image, "-c", WEIGH),
        )
    )
    parts["the base, with bytecode of its Python"] = about["Size"] - sum(parts.values())
    print(f"{image}: {about['Size'] / 1e9:.2f} GB")
    for part, size in parts.items():
        print(f"  {part}: {size / 1e6:,.0f} MB")


def first_line(command: list[str], stop: str = "") -> float:
    """Return the seconds to the first line of a container's log; the engine `stop` kills it."""
    began = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        seconds = time.perf_counter() - began
        assert line, "the container printed nothing"
        if stop:
            _output(stop, "kill", NAME)
        process.stderr.read()
    return seconds


def stopped(engine: str, command: list[str], after: int) -> float:
    """Return the seconds that a stop takes after a number of batches."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        while after:
            line = process.stderr.readline()
            assert line, "the run ended before the stop"
            after -= b'"batch.done"' in line
        began = time.perf_counter()
        _output(engine, "stop", "--time=10", NAME)
        seconds = time.perf_counter() - began
        process.stderr.read()
    assert process.wait() == 143, "the run was killed"
    return seconds


def summary(seconds: list[float]) -> str:
    """Describe times by their median and maximum."""
    return f"{median(seconds):.2f} s, at most {max(seconds):.2f} s ({len(seconds)} times)"


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
