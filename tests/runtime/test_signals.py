"""What a signal does depends on what would be lost; each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from atp.errors import ExitCode
from atp.runtime.signals import BatchAbortedError, StopRequest, stop_on_signal

BOTH = pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, ExitCode.TERMINATED), (signal.SIGINT, ExitCode.INTERRUPTED)],
)
AT_WORK = """
import os, signal, sys, time
from atp.runtime.log import configure
from atp.runtime.signals import stop_on_signal
configure("0123456789ab")
with stop_on_signal() as stop:
    {body}
print("ended by itself")
"""
HIT = "os.kill(os.getpid(), signal.{name})"


def process(body: str) -> subprocess.CompletedProcess[str]:
    """Run a script in which signals are treated as a command treats them."""
    return subprocess.run(
        [sys.executable, "-c", AT_WORK.format(body=body)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@BOTH
def test_a_signal_leaves_at_once_where_nothing_would_be_lost(
    number: signal.Signals, code: ExitCode
) -> None:
    done = process(HIT.format(name=number.name) + "; time.sleep(20)")

    assert done.returncode == code
    assert done.stdout == ""
    line = json.loads(done.stderr)
    assert (line["event"], line["reason"], line["at_once"]) == ("run.stop", number.name, True)


@BOTH
def test_the_first_signal_is_only_noted_while_work_is_finished(
    number: signal.Signals, code: ExitCode
) -> None:
    with stop_on_signal() as stop, stop.finishing():
        os.kill(os.getpid(), number)

        assert stop.exit_code == code


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_leaves_at_once(second: signal.Signals) -> None:
    hits = f"{HIT.format(name='SIGINT')}; {HIT.format(name=second.name)}"
    done = process(f"with stop.finishing(): {hits}; time.sleep(20)")

    assert done.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}[second]
    assert done.stdout == ""


def test_a_signal_unwinds_work_that_has_something_to_clear_away() -> None:
    body = f"""
    try:
        with stop.unwinding(): {HIT.format(name="SIGTERM")}; time.sleep(20)
    finally:
        print("cleared away")"""
    done = process(body)

    assert (done.returncode, done.stdout) == (143, "cleared away\n")


def test_work_that_takes_too_long_after_a_signal_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("atp.runtime.signals.GRACE_SECONDS", 0.05)
    with stop_on_signal() as stop, stop.finishing():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(BatchAbortedError), stop.abortable():
            time.sleep(20)
        time.sleep(0.1)  # saving, say: it is never interrupted


def test_work_that_is_done_in_time_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atp.runtime.signals.GRACE_SECONDS", 0.05)
    with stop_on_signal() as stop, stop.finishing():
        with stop.abortable():
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)


def test_what_was_there_before_is_there_again() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    with stop_on_signal():
        assert [signal.getsignal(number) for number in numbers] != before

    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_request_that_no_signal_reached_asks_for_nothing() -> None:
    assert StopRequest().exit_code is None


@BOTH
def test_a_signal_from_before_there_were_handlers_has_waited_for_them(
    number: signal.Signals, code: ExitCode
) -> None:
    """As in a container, whose entry point blocks signals: process 1 would lose them."""
    script = f"import os, signal; os.kill(os.getpid(), {int(number)})\n" + AT_WORK
    done = subprocess.run(
        [
            "env",
            "--block-signal=TERM,INT",
            sys.executable,
            "-c",
            script.format(body="time.sleep(9)"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == code, done
    assert done.stdout == ""
