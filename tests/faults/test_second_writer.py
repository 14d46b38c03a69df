"""One run writes in a folder at a time; a run that was killed keeps no other from it."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import forked
from jobs import Job, saved, shortfall
from slow import Slow

from atp.errors import ExitCode


def test_a_second_run_on_a_folder_is_refused_and_told_which_run_holds_it(
    job_of: Callable[..., Job], tmp_path: Path
) -> None:
    job = job_of(8, "--save-interval=1")
    with Slow(batch=3) as slow:
        prepare = job.counted(tmp_path, slow.install)
        with forked.started(job.arguments, tmp_path, prepare) as first:
            slow.wait()
            before = saved(tmp_path)
            with forked.started(job.arguments, tmp_path, lambda: None) as other:
                second = other.ended()
            assert second is not None
            assert second.code == ExitCode.BUSY
            (line,) = map(json.loads, second.err.splitlines())
            told = f"{line['message']} {line['hint']}"
            assert re.search(rf"\b{first.pid}\b", told)
            (start,) = re.findall(r"\d{4}-\d\d-\d\d[T ][\d:.+Z]+", told)
            assert abs(datetime.fromisoformat(start).timestamp() - first.began_at) < 5
            assert saved(tmp_path) == before

            first.send(signal.SIGKILL)
            killed = first.ended()
    assert killed is not None
    before = saved(tmp_path)
    assert shortfall(job, job.run(tmp_path), before, tmp_path) == []
