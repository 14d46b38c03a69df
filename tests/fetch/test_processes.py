"""Fetches and runs in processes of their own: nothing asks the hub any more; a fetch goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from disk import small_disk
from fake_hub import MODEL, SAES, SPEC, FakeHub, Place
from runs import analyses, events, of, read

from atp.cli.main import main
from atp.errors import ExitCode

ASKED = (f"--model={MODEL}", f"--sae={SPEC}")
WEIGHTS = "model.safetensors"

WATCH = """
import os
import sys

def watch(event, arguments):
    if event in {"socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"}:
        told = repr(arguments)
    elif event == "socket.connect" and not isinstance(arguments[1], (str, bytes)):
        told = repr(arguments[1])
    else:
        return
    file = os.open(os.environ["NETWORK_CALLS"], os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    os.write(file, f"{event} {told}\\n".encode())
    os.close(file)

sys.addaudithook(watch)
"""
"""As sitecustomize.py: tells of every call to the network, of any library, from the start on."""

Capture = pytest.CaptureFixture[str]
Atp = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def atp(hub: FakeHub, place: Place, tmp_path: Path) -> Atp:
    """Starts `atp`, beside this process, with an empty HF_HOME."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    environment = {name: os.environ[name] for name in os.environ if not name.startswith("HF_")}
    path = [str(tmp_path / "watch"), environment.get("PYTHONPATH", "")]
    environment |= {
        "HF_HOME": str(place.cache.parent),
        "HF_ENDPOINT": hub.endpoint,
        "NO_PROXY": "*",
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "NETWORK_CALLS": str(tmp_path / "calls"),
    }

    def start(*arguments: str, before: Sequence[str] = (), **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*before, sys.executable, "-m", "atp", *arguments],
            cwd=tmp_path,
            env=environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def ended(process: subprocess.Popen[str], code: int = ExitCode.OK) -> tuple[str, str]:
    """Return the last line of standard output, and standard error, of a process that ends so."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    return (out.splitlines() or [""])[-1], err


def calls(tmp_path: Path) -> str:
    """Return what processes have called of the network since this was asked last."""
    told = tmp_path / "calls"
    text = told.read_text(encoding="utf-8") if told.exists() else ""
    told.unlink(missing_ok=True)
    return text


def without_network() -> list[str]:
    """Return what starts a command in a place that has no network, where the system lets it."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return []
    start = [unshare, "--map-root-user", "--net"]
    tried = subprocess.run([*start, "true"], capture_output=True, check=False)
    return start if tried.returncode == 0 else []


@pytest.mark.slow
def test_after_a_fetch_a_run_makes_no_network_call_and_stays_on_its_commit(
    atp: Atp, hub: FakeHub, place: Place, input_file: Path, capsys: Capture
) -> None:
    tmp_path = input_file.parent
    record, _ = ended(atp("fetch", *ASKED))
    assert "socket.connect" in calls(tmp_path)  # the watch sees what there is to see
    hub.requests.clear()
    moved = hub.repositories[MODEL]
    moved.commit, moved.files = "2" * 40, {**moved.files, WEIGHTS: b"other weights"}

    run = atp("run", str(input_file), *ASKED, before=without_network())
    result, err = ended(run)

    assert calls(tmp_path) == ""
    assert hub.requests == []
    told = of("hub.offline", events(err))[0]
    assert told["commits"] == {MODEL: "1" * 40, SAES: "1" * 40}
    assert record in told["records"]
    found = read(tmp_path / result)
    assert found["metadata"]["atp"]["model"]["revision"] == "1" * 40
    local = ["run", str(input_file), f"--model={place.model}", f"--sae={place.sae}"]
    assert main([*local, f"--out={tmp_path / 'local'}"]) == ExitCode.OK
    expected = read(capsys.readouterr().out.strip())
    assert list(analyses(found)) == list(analyses(expected))


def begun(process: subprocess.Popen[str], place: Place, least: int = 40_000) -> int:
    """Wait until a fetch is in the middle of the weights; return how many bytes have come."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        for part in place.cache.glob("models--owner--tiny/blobs/*.incomplete"):
            with suppress(FileNotFoundError):  # complete by now, and renamed
                if (size := part.stat().st_size) > least:
                    return size
        time.sleep(0.02)
    pytest.fail("the fetch did not get there")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGKILL, -signal.SIGKILL),
        (signal.SIGTERM, ExitCode.TERMINATED),
        (signal.SIGINT, ExitCode.INTERRUPTED),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_fetch_that_is_ended_in_the_middle_of_a_file_goes_on_there(
    atp: Atp, hub: FakeHub, place: Place, number: signal.Signals, code: int
) -> None:
    hub.pause = 0.1
    process = atp("fetch", *ASKED)
    came = begun(process, place)
    process.send_signal(number)
    _, err = ended(process, code)
    (part,) = place.cache.glob("models--owner--tiny/blobs/*.incomplete")
    here = part.stat().st_size
    assert came <= here < len(hub.repositories[MODEL].files[WEIGHTS])
    if number != signal.SIGKILL:
        last = events(err)[-1]
        assert last["message"] == "the fetch was stopped; all downloaded bytes are kept."
        assert last["exit_code"] == code
        return
    hub.pause = 0.0
    hub.requests.clear()

    _, err = ended(atp("fetch", *ASKED))

    assert hub.bytes_asked_for(WEIGHTS) == [f"bytes={here}-"]
    assert len([each for each in hub.requests if "/resolve/" in each.path]) == 1
    total = len(hub.repositories[MODEL].files[WEIGHTS])
    assert of("fetch.start", events(err))[0]["missing_bytes"] == total - here


def test_a_disk_without_room_is_told_before_a_byte_comes(
    atp: Atp, hub: FakeHub, place: Place
) -> None:
    with small_disk(place.cache.parent, 200_000):
        _, err = ended(atp("fetch", *ASKED), ExitCode.UNAVAILABLE)

        message = events(err)[-1]["message"]
        assert f" bytes have to come to {place.cache}, " in message
        assert message.endswith(" bytes are free.")
        assert not any("/resolve/" in each.path for each in hub.requests)


def test_a_misspelt_name_is_told_before_the_hub_is_asked(atp: Atp, hub: FakeHub) -> None:
    _, err = ended(atp("fetch", "--sae=gemma-scope-9b-it-res-canonicl:x"), ExitCode.USAGE)

    assert "gemma-scope-9b-it-res-canonical" in events(err)[-1]["hint"]
    assert hub.requests == []
