"""How far a fetch is: lines of the log with bytes, rate and time left; a bar on a terminal."""

from __future__ import annotations

import pytest
from runs import events, of

from atp.fetch import progress
from atp.fetch.progress import Progress
from atp.runtime.log import byte_progress, configure


@pytest.fixture(autouse=True)
def _log() -> None:
    configure("0123456789ab")


def test_a_line_now_and_then_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 4.0, 10.0, 15.0, 20.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))

    with byte_progress(400) as show:
        told = Progress(400, show)
        for count in (100, 100, -50, 50):
            told.arrived(count)

    lines = of("fetch.progress", events(capsys.readouterr().err))
    assert [line["done_bytes"] for line in lines] == [200, 200]
    assert [line["bytes_per_second"] for line in lines] == [20, 10]
    assert [line["seconds_left"] for line in lines] == [10, 20]
    assert {line["total_bytes"] for line in lines} == {400}
    assert told.done == 200


def test_a_terminal_shows_a_bar_of_bytes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)

    with byte_progress(2 << 20) as arrived:
        arrived(1 << 20)

    assert "1.0/2.0 MiB" in capsys.readouterr().err
