"""What saving costs: a share of the run's time, the same with many pairs as with few."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import forked
import pytest
from disturbed_runs import Job, Report
from runs import events, of

from atp.errors import ExitCode

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from demo import write_copies

SHARE = 0.01


def per_pair(job: Job) -> tuple[float, float]:
    """Return how many bytes an undisturbed run writes for each pair, and how many steps it takes.

    The steps are those of all its files, as in io_steps.py.
    """
    sizes = [int(step.split(" ", 2)[1]) for step in job.steps]
    return sum(sizes) / job.pairs, len(sizes) / job.pairs


@pytest.mark.slow
def test_each_of_many_pairs_costs_as_much_saving_as_each_of_few(job_of: Callable[..., Job]) -> None:
    few, many = (job_of(count, "--save-interval=10") for count in (10, 80))
    for of_few, of_many in zip(per_pair(few), per_pair(many), strict=True):
        assert of_many <= 2.5 * of_few  # a refresh or two of the result file may come in between


@pytest.mark.full
@pytest.mark.parametrize("copies", [1, 10])
def test_saving_takes_a_small_share_of_the_demos_time(
    demo_arguments: list[str],
    tmp_path: Path,
    copies: int,
    report: Report,
) -> None:
    source = tmp_path / "copies.json"
    write_copies(source, copies)
    arguments = ["run", str(source), *demo_arguments, "--save-interval=10"]
    with forked.started(arguments, tmp_path, new=True) as child:
        ended = child.ended(within=3600)
    assert ended is not None
    assert ended.code == ExitCode.OK
    (done,) = of("run.done", events(ended.err))
    share = done["saving_seconds"] / done["seconds"]
    report.figure(
        f"saving, demo input x {copies}, save interval 10",
        f"< {SHARE:.0%} of the run's time",
        f"{share:.2%} of {done['seconds']:.0f} s",
    )
    assert share < SHARE
