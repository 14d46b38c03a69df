"""Fetches and runs in processes of their own: nothing asks the hub any more; a fetch goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from disk import small_disk
from fake_hub import MODEL, SAES, SPEC, FakeHub, Place
from runs import analyses, events, of, read

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


def test_after_a_fetch_a_run_makes_no_network_call_and_stays_on_its_commit(
    atp: Atp, hub: FakeHub, place: Place, input_file: Path, tmp_path: Path
) -> None:
    local = atp("run", str(input_file), f"--model={place.model}", f"--sae={place.sae}", "--out=a")
    expected, _ = ended(local)
    calls(tmp_path)
    record, _ = ended(atp("fetch", *ASKED))
    assert "socket.connect" in calls(tmp_path)  # the watch sees what there is to see
    hub.requests.clear()

    run = ("run", str(input_file), *ASKED)
    result, err = ended(atp(*run, "--out=b", before=without_network()))

    assert calls(tmp_path) == ""
    told = of("hub.offline", events(err))[0]
    assert told["commits"] == {MODEL: "1" * 40, SAES: "1" * 40}
    assert record in told["records"]
    assert list(analyses(read(tmp_path / result))) == list(analyses(read(tmp_path / expected)))

    moved = hub.repositories[MODEL]
    moved.commit, moved.files[WEIGHTS] = "2" * 40, b"other weights"
    again, _ = ended(atp(*run, "--out=c"))

    assert hub.requests == []
    metadata = read(tmp_path / again)["metadata"]["atp"]
    assert metadata["model"]["revision"] == "1" * 40
    assert list(analyses(read(tmp_path / again))) == list(analyses(read(tmp_path / expected)))


def test_a_check_after_a_fetch_asks_no_hub_and_says_so(
    atp: Atp, hub: FakeHub, input_file: Path, tmp_path: Path
) -> None:
    ended(atp("fetch", *ASKED))
    calls(tmp_path)

    process = atp("check", str(input_file), *ASKED, "--json")
    out, err = process.communicate(timeout=120)

    assert process.returncode == ExitCode.OK, err
    assert calls(tmp_path) == ""
    report = json.loads(out)
    assert (report["model"]["where"], report["model"]["fetched"]) == ("cache", True)
    assert [(sae["where"], sae["fetched"]) for sae in report["saes"]] == [("cache", True)]
    assert report["machine"]["hub"]["offline"] is False


def test_what_was_not_fetched_is_asked_for_as_before(
    atp: Atp, hub: FakeHub, place: Place, input_file: Path, tmp_path: Path
) -> None:
    files = {f"layer_1/other/{each.name}": each.read_bytes() for each in place.sae.iterdir()}
    hub.repositories[SAES].files |= files
    ended(atp("fetch", *ASKED))
    hub.requests.clear()

    both = (*ASKED, f"--sae={SAES}:layer_1/other")
    _, err = ended(atp("run", str(input_file), *both))

    assert of("hub.offline", events(err)) == []
    assert any("layer_1/other" in each.path for each in hub.requests)


def begun(process: subprocess.Popen[str], place: Place, least: int = 40_000) -> int:
    """Wait until a fetch is in the middle of the weights; return how many bytes have come."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        for part in place.cache.glob("models--owner--tiny/blobs/*.incomplete"):
            if part.stat().st_size > least:
                return part.stat().st_size
        time.sleep(0.02)
    pytest.fail("the fetch did not get there")


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
    if number != signal.SIGKILL:
        last = events(err)[-1]
        assert last["message"] == "the fetch was stopped; what has come stays."
        assert last["exit_code"] == code
    (part,) = place.cache.glob("models--owner--tiny/blobs/*.incomplete")
    here = part.stat().st_size
    assert came <= here < len(hub.repositories[MODEL].files[WEIGHTS])
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
    with small_disk(place.cache.parent, 200_000) as resize:
        _, err = ended(atp("fetch", *ASKED), ExitCode.UNAVAILABLE)

        message = events(err)[-1]["message"]
        assert f" bytes have to come to {place.cache}, " in message
        assert message.endswith(" bytes are free.")
        assert not any("/resolve/" in each.path for each in hub.requests)

        resize(10_000_000)
        ended(atp("fetch", *ASKED))


def test_a_misspelt_name_is_told_before_the_hub_is_asked_or_torch_imported(
    atp: Atp, hub: FakeHub
) -> None:
    began = time.process_time()

    _, err = ended(atp("fetch", "--sae=gemma-scope-9b-it-res-canonicl:x"), ExitCode.USAGE)

    assert time.process_time() - began < 1
    assert "gemma-scope-9b-it-res-canonical" in events(err)[-1]["hint"]
    assert hub.requests == []
