"""`docker stop` in mid-run saves and ends the container in time; the next start goes on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import runs
import tiny
from containers import Image

pytestmark = pytest.mark.image

QUESTIONS = 12
OPTIONS = ("--network=none", "--env=HF_HUB_OFFLINE=1", "--env=ATP_BATCH_TOKENS=200")
DOCKER_STOP = 10.0
"""Seconds that `docker stop` gives a container."""


def test_a_stopped_container_has_saved_and_goes_on_to_the_same_bytes(
    image: Image, volume: Path
) -> None:
    runs.write(volume / "input" / "feedback.json", tiny.questions(QUESTIONS))
    mounted = (*OPTIONS, f"--volume={volume}:/data")
    with image.started(options=mounted) as container:
        container.wait_for("batch.done", 3)
        seconds = container.stop()
        stopped = container.ended()
    assert stopped.code == 143, stopped
    assert seconds < DOCKER_STOP
    (partial,) = (volume / "results" / "feedback").glob("atp_results_*.json")
    about = runs.read(partial)["metadata"]["atp"]
    assert not about["complete"]
    assert 0 < about["counts"]["scored"] < about["counts"]["pairs"]

    resumed = image.run(options=mounted)
    assert resumed.code == 0, resumed
    (line,) = runs.of("run.resume", resumed.log)
    assert line["done"] == about["counts"]["scored"] + about["counts"]["skipped"]

    undisturbed = image.run(
        "--out=/data/undisturbed", options=(*mounted, "--read-only", "--tmpfs=/tmp")
    )
    assert undisturbed.code == 0, undisturbed
    same = runs.without_times(resumed.result(volume))
    assert same == runs.without_times(undisturbed.result(volume)).replace(
        b'"/data/undisturbed"', b'"/data/results/feedback"'
    )


def test_a_container_that_is_stopped_while_it_loads_leaves_at_once(
    image: Image, volume: Path
) -> None:
    with image.started(options=(*OPTIONS, f"--volume={volume}:/data")) as container:
        container.wait_for("run.start")
        seconds = container.stop()
        stopped = container.ended()
    assert stopped.code == 143, stopped
    assert seconds < DOCKER_STOP


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2])
def test_a_stop_right_after_the_start_is_not_lost(image: Image, volume: Path, delay: float) -> None:
    with image.started(options=(*OPTIONS, f"--volume={volume}:/data")) as container:
        container.wait_until_it_runs()
        time.sleep(delay)
        seconds = container.stop()
        stopped = container.ended()
    assert stopped.code == 143, stopped
    assert seconds < DOCKER_STOP


def test_a_killed_container_costs_nothing(image: Image, volume: Path) -> None:
    runs.write(volume / "input" / "feedback.json", tiny.questions(QUESTIONS))
    mounted = (*OPTIONS, f"--volume={volume}:/data")
    with image.started(options=mounted) as container:
        container.wait_for("batch.done", 3)
        image.command("kill", container.name)
        killed = container.ended()
    assert killed.code == 137
    done = image.run(options=mounted)
    assert done.code == 0, done
    assert runs.of("run.resume", done.log)[0]["done"] > 0
