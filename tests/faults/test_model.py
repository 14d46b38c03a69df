"""What fails inside the model at one pair costs no other pair its result, nor the next start."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from disturbed_runs import OUT, Job, Report, saved
from faulty_model import FAULTS, MARKED, Faulty, assert_close
from runs import analyses, events, of, read, without_times
from tiers import first_tier

from atp.errors import ExitCode


@pytest.mark.parametrize("error", first_tier(["OOM"], FAULTS))
def test_a_fault_at_a_random_pair_is_that_pairs_error_until_the_next_start(
    job_of: Callable[..., Job],
    tmp_path: Path,
    error: str,
    report: Report,
) -> None:
    seeds = range(10 if report.full else 1)
    for seed in seeds:
        chance = random.Random(f"{error} {seed}")  # noqa: S311  (which pair)
        marked = chance.randrange(36)
        job = job_of(12, "--save-interval=1", marked=((marked, MARKED),))
        folder = tmp_path / str(seed)
        ended = job.run(folder, Faulty(FAULTS[error]).install)
        assert ended.code == ExitCode.PAIRS_FAILED, ended.err
        result = read(folder / ended.out.strip())
        assert result["metadata"]["atp"]["counts"]["error"] == 1
        found = list(analyses(result))
        assert found[marked]["error"] == error
        for index, (one, healthy) in enumerate(zip(found, job.analyses, strict=True)):
            if index != marked:
                assert_close(one, healthy)
        before = saved(folder)

        ended = job.run(folder)
        assert ended.code == ExitCode.OK
        (resumed,) = of("run.resume", events(ended.err))
        assert (resumed["done"], resumed["retried"]) == (35, 1)
        assert sum(batch["new"] for batch in of("batch.done", events(ended.err))) == 1
        assert saved(folder)[: len(before)] == before
        path = folder / OUT / Path(ended.out.strip()).name
        again = list(analyses(read(path)))
        assert again[:marked] + again[marked + 1 :] == found[:marked] + found[marked + 1 :]
        assert again[marked] == job.analyses[marked]
        if error == "Not finite":  # the batch was not taken apart: the very same numbers
            assert without_times(path) == job.expected
    report.figure(
        f"a fault in the model at a random pair: {error}",
        f"{len(seeds)} of {len(seeds)} cost no other pair, and the next start computes them",
        f"{len(seeds)} of {len(seeds)}",
    )
