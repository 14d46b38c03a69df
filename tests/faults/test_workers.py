"""On a Ray cluster, whatever dies, the result has the bytes of a run in one process."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import forked
import psutil
import pytest
import ray_cluster
from disturbed_runs import OUT, Job, Report, is_torn, listed, pairs_in, saved, was_killed
from faulty_model import ALSO_MARKED, MARKED, OTHER_SOURCE, assert_close, in_workers
from ray_runs import (
    interfaces,
    kill,
    log_of,
    on_ray,
    shortfall,
    wait_for,
    wait_for_death,
    without_cluster,
)
from runs import analyses, events, of, read

from atp.errors import ExitCode


def in_tiers(slow: Sequence[Any], full: Sequence[Any]) -> list[Any]:
    """Return parameters of a test: of the second tier, and of `make test-faults` alone."""
    marked = (
        *((each, pytest.mark.slow) for each in slow),
        *((each, pytest.mark.full) for each in full),
    )
    return [pytest.param(value, marks=mark) for value, mark in marked]


SECONDS_TO_STOP = 10.0
"""From a signal to the exit; the workers are given a second, and Ray ends them."""


@pytest.fixture
def job(job_of: Callable[..., Job]) -> Job:
    """A job of many batches."""
    return job_of(100)


@pytest.mark.slow
def test_workers_killed_at_random_moments_cost_no_pair(
    job: Job, ray_address: str, tmp_path: Path, report: Report
) -> None:
    chance = random.Random(0)  # noqa: S311  (moments to kill at)
    kills, most = 0, 20 if report.full else 1
    wrong: dict[int, list[str]] = {}
    for attempt in range(most):
        folder = tmp_path / str(attempt)
        with forked.started(on_ray(job, ray_address).arguments, folder) as child:
            wait_for(child, "batch.done")
            time.sleep(chance.uniform(0, 0.5))
            kill(chance.choice(wait_for(child, "worker.ready"))["pid"])
            kills += 1
            ended = child.ended(within=300)
        assert ended is not None
        complaints = shortfall(job, ended, folder, [])
        if complaints:
            wrong[attempt] = complaints
        if len(of("worker.lost", events(ended.err))) != 1 and not complaints:
            kills -= 1  # it came when all was done
    report.figure(
        "a worker on Ray killed at random moments",
        f"{most} of {most} the same bytes",
        f"{most - len(wrong)} of {most}, {kills} of them with work left",
    )
    assert not wrong, listed(wrong)
    assert kills > 0


@pytest.mark.slow
def test_a_killed_driver_leaves_no_worker_and_the_next_start_goes_on(
    job: Job, ray_address: str, tmp_path: Path, report: Report
) -> None:
    chance = random.Random(1)  # noqa: S311  (as above)
    most = 20 if report.full else 1
    wrong: dict[int, list[str]] = {}
    for attempt in range(most):
        folder = tmp_path / str(attempt)
        arguments = on_ray(job, ray_address).arguments
        with forked.started(arguments, folder) as child:
            wait_for(child, "batch.done")
            time.sleep(chance.uniform(0, 0.3))
            child.send(signal.SIGKILL)
            ended = child.ended()
            pids = [line["pid"] for line in of("worker.ready", log_of(child))]
        assert ended is not None
        assert was_killed(ended)
        before, cut = saved(folder), is_torn(folder)
        assert before
        complaints = [f"worker {pid} is still there" for pid in wait_for_death(pids)]
        with forked.started(arguments, folder) as child:
            again = child.ended(within=300)
        assert again is not None
        complaints += shortfall(job, again, folder, before, cut * job.largest_batch)
        computed = sum(line["new"] for line in of("batch.done", events(again.err)))
        if computed + len(pairs_in(before)) != job.pairs:
            complaints.append(f"{len(pairs_in(before))} were saved, and {computed} computed")
        if complaints:
            wrong[attempt] = complaints
    report.figure(
        "the driver of a run on Ray killed at random moments",
        f"{most} of {most} the same bytes",
        f"{most - len(wrong)} of {most}",
    )
    assert not wrong, listed(wrong)


@pytest.mark.parametrize(
    "errors",
    in_tiers([("Worker died", "OOM")], [("ArithmeticError", "Not finite")]),
    ids=" and ".join,
)
def test_a_fault_in_a_worker_is_one_pairs_error_until_the_next_start(
    job_of: Callable[..., Job], ray_address: str, tmp_path: Path, errors: tuple[str, str]
) -> None:
    marked = {17: MARKED, 30: ALSO_MARKED}
    job = job_of(12, "--save-interval=1", marked=tuple(marked.items()))
    arguments = on_ray(job, ray_address).arguments
    with forked.started(arguments, tmp_path, in_workers(*errors)) as child:
        ended = child.ended(within=300)
    assert ended is not None
    assert ended.code == ExitCode.PAIRS_FAILED, ended.err[-3000:]
    found = list(analyses(read(tmp_path / ended.out.strip())))
    assert tuple(found[pair]["error"] for pair in marked) == errors
    for index, (one, healthy) in enumerate(zip(found, job.analyses, strict=True)):
        if index not in marked:
            assert_close(one, healthy)
    log = events(ended.err)
    assert len(of("worker.lost", log)) == (3 if "Worker died" in errors else 0)

    again = job.run(tmp_path)  # in one process, with a model that is well
    assert again.code == ExitCode.OK
    assert sum(batch["new"] for batch in of("batch.done", events(again.err))) == len(marked)


@pytest.mark.full
def test_deadly_pairs_beside_each_other_do_not_end_a_run_of_one_worker(
    job_of: Callable[..., Job], ray_address: str, tmp_path: Path
) -> None:
    marked = (15, 16, 17)
    job = job_of(12, "--save-interval=1", marked=tuple((pair, MARKED) for pair in marked))
    arguments = on_ray(job, ray_address, workers=1).arguments
    with forked.started(arguments, tmp_path, in_workers("Worker died")) as child:
        ended = child.ended(within=600)
    assert ended is not None
    assert ended.code == ExitCode.PAIRS_FAILED, ended.err[-3000:]
    found = list(analyses(read(tmp_path / ended.out.strip())))
    assert tuple(pair for pair, each in enumerate(found) if "error" in each) == marked


@pytest.mark.parametrize("number", in_tiers([signal.SIGTERM], [signal.SIGINT]))
def test_a_signal_ends_the_run_its_workers_and_the_cluster_of_its_own(
    job: Job, tmp_path: Path, number: int
) -> None:
    arguments = (*job.arguments, "--workers=1")
    with forked.started(arguments, tmp_path, without_cluster) as child:
        wait_for(child, "batch.done")
        (ready,) = wait_for(child, "worker.ready")
        assert interfaces(child) == {"127.0.0.1"}
        began = time.monotonic()
        child.send(number)
        ended = child.ended(within=60)
        took = time.monotonic() - began
    assert ended is not None
    assert ended.code == {signal.SIGTERM: 143, signal.SIGINT: 130}[signal.Signals(number)]
    assert took <= SECONDS_TO_STOP
    assert not wait_for_death([ready["pid"]])
    held = saved(tmp_path)
    assert held
    (path,) = (tmp_path / OUT).glob("*.json")
    assert len(list(analyses(read(path)))) == len(held)

    again = job.run(tmp_path)  # a run in one process takes it up
    assert again.code == ExitCode.OK
    assert shortfall(job, again, tmp_path, held) == []


@pytest.mark.full
def test_a_killed_driver_leaves_nothing_of_a_cluster_of_its_own(job: Job, tmp_path: Path) -> None:
    """Two processes of Ray wait for a minute until they believe that it is gone."""
    arguments = (*job.arguments, "--workers=1")
    with forked.started(arguments, tmp_path, without_cluster) as child:
        wait_for(child, "batch.done")
        pids = [each.pid for each in psutil.Process(child.pid).children(recursive=True)]
        child.send(signal.SIGKILL)
        child.ended()
    assert len(pids) > 2
    assert not wait_for_death(pids, within=90)


@pytest.mark.full
def test_a_lost_head_ends_the_run_before_ray_does(job: Job, tmp_path: Path) -> None:
    arguments = (*job.arguments, "--workers=1")
    with forked.started(arguments, tmp_path, without_cluster) as child:
        (ready,) = wait_for(child, "worker.ready")
        wait_for(child, "batch.done")
        psutil.Process(ready["pid"]).suspend()  # or it may do all the rest
        of_run = psutil.Process(child.pid).children(recursive=True)
        (head,) = (each for each in of_run if each.name() == "gcs_server")
        head.kill()
        ended = child.ended(within=100)
        kill(ready["pid"])
    assert ended is not None
    assert ended.code == ExitCode.UNAVAILABLE
    last = events(ended.err)[-1]
    assert last["event"] == "atp.failed"
    assert "the head of the Ray cluster" in last["message"]
    assert not wait_for_death([each.pid for each in of_run], within=90)

    held = saved(tmp_path)
    assert held
    again = job.run(tmp_path)
    assert again.code == ExitCode.OK
    assert shortfall(job, again, tmp_path, held) == []


@pytest.mark.slow
def test_a_worker_with_another_atp_than_the_drivers_is_given_up(
    job: Job, ray_address: str, tmp_path: Path
) -> None:
    arguments = on_ray(job, ray_address, workers=1).arguments
    with forked.started(arguments, tmp_path, in_workers(OTHER_SOURCE)) as child:
        ended = child.ended(within=300)
    assert ended is not None
    assert ended.code == ExitCode.UNAVAILABLE
    (lost,) = of("worker.lost", events(ended.err))
    assert lost["reason"] == "its source_sha256 differ from those of the driver"


@pytest.mark.slow
def test_a_lost_node_costs_no_pair(job: Job, tmp_path: Path) -> None:
    with (
        ray_cluster.started(1, 1) as (address, lose),
        forked.started(on_ray(job, address).arguments, tmp_path) as child,
    ):
        first = psutil.Process(wait_for(child, "worker.ready")[0]["pid"])
        first.suspend()  # or it may have done all when the other is ready
        wait_for(child, "worker.ready", 2)
        first.resume()
        wait_for(child, "batch.done", 4)
        lose()
        ended = child.ended(within=300)
    assert ended is not None
    assert shortfall(job, ended, tmp_path, []) == []
    assert of("worker.lost", events(ended.err))
