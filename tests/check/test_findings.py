"""Problems of the input are counted without a bound, and kept up to one."""

from __future__ import annotations

import pytest

from atp.check.findings import MAX_KEPT_PROBLEMS, InputProblems
from atp.dataset.pairs import Problem


@pytest.mark.parametrize("count", [0, MAX_KEPT_PROBLEMS, MAX_KEPT_PROBLEMS + 1])
def test_problems_beyond_the_bound_are_counted_and_not_kept(count: int) -> None:
    problems = InputProblems()
    for number in range(count):
        problems.add(Problem("wrong", "mend it", refused=True, question=number))

    report = problems.as_json()

    assert report["problem_count"] == count
    assert len(report["problems"]) == min(count, MAX_KEPT_PROBLEMS)
    assert report["truncated"] == (count > MAX_KEPT_PROBLEMS)
