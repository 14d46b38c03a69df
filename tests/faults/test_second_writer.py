"""One run writes in a folder at a time; a run that was killed keeps no other from it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import forked
from disturbed_runs import OUT, Job, saved, shortfall
from stalled_batch import StalledBatch

from atp.errors import ExitCode


def test_a_second_run_on_a_folder_is_refused_and_told_which_run_holds_it(
    job_of: Callable[..., Job], tmp_path: Path
) -> None:
    job = job_of(8, "--save-interval=1")
    one, other = tmp_path / "one", tmp_path / "other"
    other.mkdir()
    (other / OUT).symlink_to(one / OUT)
    with (
        StalledBatch(batch=3) as slow,
        forked.started(job.arguments, one, job.counted(one, slow.install)) as first,
    ):
        slow.wait()
        before = saved(one)
        second = forked.run(job.arguments, other)
        assert second.code == ExitCode.BUSY
        (line,) = map(json.loads, second.err.splitlines())
        told = f"{line['message']} {line['hint']}"
        assert re.search(rf"\b{first.pid}\b", told)
        (start,) = re.findall(r"\d{4}-\d\d-\d\d[T ][\d:.+Z]+\d", told)
        assert abs(datetime.fromisoformat(start).timestamp() - first.began_at) < 5
        assert saved(one) == before
    # The first has been killed by now; its lock keeps no other from the folder.
    assert shortfall(job, job.run(one), before, one) == []
