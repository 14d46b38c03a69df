"""How far a fetch is: lines of the log with bytes, rate and time left."""

from __future__ import annotations

import pytest
from runs import events, of

from atp.fetch import progress
from atp.fetch.progress import Progress
from atp.runtime.log import configure


@pytest.fixture(autouse=True)
def _log() -> None:
    configure("0123456789ab")


def test_a_line_now_and_then_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 4.0, 10.0, 15.0, 20.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))

    told = Progress(400, lambda _: None)
    for count in (100, 100, -50, 50):
        told.arrived(count)

    lines = of("fetch.progress", events(capsys.readouterr().err))
    assert [line["done_bytes"] for line in lines] == [200, 200]
    assert [line["bytes_per_second"] for line in lines] == [20, 10]
    assert [line["seconds_left"] for line in lines] == [10, 20]
    assert {line["total_bytes"] for line in lines} == {400}
    assert told.done == 200
