"""entrypoint.sh chooses the command and tells what is wrong with a container, in one line.

The script runs here with its constants set to folders and files of the test, and with a stand-in
for atp that prints its arguments; tests/image runs the real thing in real containers.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from other_users import open_to_all

from atp.check.machine import DRIVERS

ROOT = Path(__file__).parent.parent
SCRIPT = (ROOT / "entrypoint.sh").read_text(encoding="utf-8")
DRIVER_FILE = "NVRM version: NVIDIA UNIX {}x86_64 Kernel Module  {}  Tue Jul 22 16:03:37 UTC 2025\n"
LIBTORCH_CUDA = "venv/lib/python3.13/site-packages/torch/lib/libtorch_cuda.so"


BLOCKED = "import signal; print(sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))))"


@dataclass
class Container:
    """A volume, a driver and an image, as far as the script sees them."""

    root: Path

    def set(self, name: str, value: str, script: str) -> str:
        """Return the script with a constant set anew."""
        changed, count = re.subn(
            rf"^readonly {name}=\S*", f"readonly {name}={value}", script, flags=re.MULTILINE
        )
        assert count == 1, name
        return changed

    def run(
        self,
        *arguments: str,
        mounted: bool = True,
        mounted_at: str = "",
        gpu: bool = False,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run the script."""
        script = SCRIPT
        for name, value in {
            "volume": self.root / "data",
            "driver_file": self.root / "driver",
            "environment": self.root / "venv",
        }.items():
            script = self.set(name, str(value), script)
        for place, value in {
            "/proc/self/mountinfo": self.root / "mounts",
            "/dev/nvidiactl": self.root / "nvidiactl",
            "/dev/dxg": self.root / "dxg",
        }.items():
            assert place in script
            script = script.replace(place, str(value))
        mount = f"1 2 0:1 / {mounted_at or self.root / 'data'} rw\n"
        (self.root / "mounts").write_text(f"1 2 0:1 {self.root}/data/x /etc rw\n" + mount * mounted)
        if gpu:
            (self.root / "nvidiactl").touch()
        path = self.root / "entrypoint.sh"
        path.write_text(script)
        return subprocess.run(
            ["sh", str(path), *arguments],
            env={
                "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}",
                "HF_HOME": str(self.root / "data" / "cache"),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def driver(self, release: str, kind: str = "") -> None:
        """Pretend that the host has a driver."""
        (self.root / "driver").write_text(DRIVER_FILE.format(kind, release))


@pytest.fixture
def container(tmp_path: Path) -> Container:
    """The CUDA image with a volume that holds an input, on a host without a GPU."""
    (tmp_path / "data" / "input").mkdir(parents=True)
    (tmp_path / "data" / "input" / "feedback.json").touch()
    (tmp_path / "bin").mkdir()
    atp = tmp_path / "bin" / "atp"
    atp.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@"\n[ -n "${HF_TOKEN_PATH+x}" ] && echo token\nexit 7'
    )
    atp.chmod(0o755)
    (tmp_path / LIBTORCH_CUDA).parent.mkdir(parents=True)
    (tmp_path / LIBTORCH_CUDA).touch()
    return Container(tmp_path)


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Return what the script said."""
    return [json.loads(line) for line in done.stderr.splitlines()]


def passed_on(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the arguments that atp got, whose exit code is the container's."""
    assert done.returncode == 7, done
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ["run"]),
        (["--limit=5", "--fresh"], ["run", "--limit=5", "--fresh"]),
        (["run", "a b.json"], ["run", "a b.json"]),
        (["check", "--json"], ["check", "--json"]),
        (["fetch"], ["fetch"]),
        (["merge", "x"], ["merge", "x"]),
        (["features", "x"], ["features", "x"]),
        (["intervene", "x", "--features=y"], ["intervene", "x", "--features=y"]),
        (["report", "--out=page.html"], ["report", "--out=page.html"]),
        (["--help"], ["--help"]),
        (["--version"], ["--version"]),
        (["nonsense"], ["nonsense"]),
    ],
)
def test_arguments_become_an_atp_command(
    container: Container, given: list[str], expected: list[str]
) -> None:
    assert passed_on(container.run(*given)) == expected


def test_without_arguments_and_without_an_input_there_is_nothing_to_do(
    container: Container,
) -> None:
    (container.root / "data" / "input" / "feedback.json").unlink()
    done = container.run()
    assert (done.returncode, done.stdout) == (0, "")
    (line,) = lines(done)
    assert (line["event"], line["level"]) == ("container.idle", "warning")
    assert str(container.root / "data" / "input") in line["message"]
    assert passed_on(container.run(ATP_INPUT="/elsewhere.json")) == ["run"]
    assert passed_on(container.run("run")) == ["run"]  # atp itself says what it misses


@pytest.mark.parametrize("name", ["feedback.jsonl", "a b.json"])
def test_any_input_is_found(container: Container, name: str) -> None:
    folder = container.root / "data" / "input"
    (folder / "feedback.json").rename(folder / name)
    assert passed_on(container.run()) == ["run"]


def test_results_that_would_go_with_the_container_are_not_computed(container: Container) -> None:
    for command in ([], ["run", "x.json"], ["run", f"--out={container.root}/data/here"], ["fetch"]):
        done = container.run(*command, mounted=False)
        assert done.returncode == 2
        assert "nothing is mounted at" in lines(done)[0]["message"]
        assert "-v data:" in lines(done)[0]["hint"]
    elsewhere = container.run("run", "--out", str(container.root / "other"), mounted=False)
    assert passed_on(elsewhere)[0] == "run"
    assert passed_on(container.run("check", mounted=False)) == ["check"]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users")
@pytest.mark.parametrize(
    "command",
    [[], ["fetch"], ["merge", "x"], ["features", "x"], ["intervene", "x"], ["report", "x"]],
)
def test_a_volume_of_another_user_is_refused_with_the_mend(
    container: Container, command: list[str]
) -> None:
    open_to_all(container.root)
    os.chown(container.root / "data", 1234, 1234)
    (container.root / "data").chmod(0o755)
    script = container.root / "entrypoint.sh"
    container.run(*command)  # writes the script
    done = subprocess.run(
        ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups", "sh", str(script), *command],
        env={"PATH": os.environ["PATH"], "HF_HOME": str(container.root / "data" / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done
    (line,) = lines(done)
    assert "user 4711:4711 may not write to" in line["message"]
    assert "belongs to 1234:1234" in line["message"]
    assert "--user 1234:1234" in line["hint"]
    assert "chown -R 4711:4711" in line["hint"]


def test_a_mount_below_the_volume_must_hold_the_results(container: Container) -> None:
    data = f"{container.root}/data"
    assert container.run("run", "x", mounted_at=f"{data}/input").returncode == 2
    assert container.run("run", "x", mounted_at=f"{data}/results").returncode == 7
    elsewhere = container.run("run", "x", f"--out={data}/a/b", mounted_at=f"{data}/a")
    assert passed_on(elsewhere)[0] == "run"
    page = container.run("report", "x", f"--out={data}/a/b/page.html", mounted_at=f"{data}/a")
    assert passed_on(page)[0] == "report"
    assert container.run("report", f"--out={data}/b.html", mounted_at=f"{data}/a").returncode == 2
    assert container.run("fetch", mounted_at=f"{data}/input").returncode == 2
    assert container.run("fetch", mounted_at=f"{data}/cache").returncode == 7


def test_a_file_after_options_is_the_input(container: Container) -> None:
    (container.root / "data" / "input" / "feedback.json").unlink()
    assert passed_on(container.run("--limit=5", "other.json")) == ["run", "--limit=5", "other.json"]
    assert passed_on(container.run("run", "--limit=5", "-h")) == ["run", "--limit=5", "-h"]


def test_without_a_gpu_the_cpu_computes_and_a_line_says_why(container: Container) -> None:
    done = container.run("run", "x.json")
    assert passed_on(done) == ["run", "x.json"]
    (line,) = lines(done)
    assert (line["event"], line["level"]) == ("container.gpu", "warning")
    assert "no NVIDIA driver" in line["message"]
    assert "--gpus all" in line["hint"]

    container.driver("580.95.05")
    (line,) = lines(container.run("run", "x.json"))
    assert "the host's driver is 580.95.05, but no GPU was passed in" in line["message"]


@pytest.mark.parametrize("kind", ["", "Open Kernel Module for "])
@pytest.mark.parametrize(
    ("release", "new_enough"),
    [
        ("580.65.06", True),
        ("580.100.01", True),
        ("1000.1", True),
        ("580.64.99", False),
        ("575.57.08", False),
        ("99.9", False),
    ],
)
def test_a_driver_that_is_too_old_ends_the_run(
    container: Container, kind: str, release: str, *, new_enough: bool
) -> None:
    container.driver(release, kind)
    done = container.run("run", gpu=True)
    if new_enough:
        assert passed_on(done) == ["run"]
        assert done.stderr == ""
        return
    assert done.returncode == 3
    (line,) = lines(done)
    assert f"driver {release} is too old" in line["message"]
    assert "--device=cpu" in line["hint"]
    assert passed_on(container.run("run", "--device=cpu", gpu=True)) == ["run", "--device=cpu"]
    assert passed_on(container.run("run", gpu=True, ATP_DEVICE="cpu")) == ["run"]


def test_nothing_is_said_of_gpus_where_none_is_wanted(container: Container) -> None:
    for command in (["fetch"], ["run", "--device=cpu"], ["run", "--device", "cpu"], ["--version"]):
        assert container.run(*command).stderr == ""
    (container.root / LIBTORCH_CUDA).unlink()  # the CPU image
    assert container.run("run").stderr == ""


def test_signals_wait_until_atp_handles_them(container: Container) -> None:
    atp = container.root / "bin" / "atp"
    atp.write_text(f"#!{sys.executable}\n" + BLOCKED)
    assert container.run("run", "x", "--device=cpu").stdout == "[2, 15]\n"


def test_the_oldest_driver_is_the_one_that_check_names() -> None:
    oldest = re.search(r"^readonly oldest_driver=(\S+)", SCRIPT, flags=re.MULTILINE)
    assert oldest is not None
    assert tuple(map(int, oldest[1].split("."))) == DRIVERS[13]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users")
def test_a_token_that_cannot_be_read_is_left_out_with_a_warning(container: Container) -> None:
    token = container.root / "hf_token"
    token.write_text("hf_secret")
    readable = container.run("check", "--device=cpu", HF_TOKEN_PATH=str(token))
    assert passed_on(readable) == ["check", "--device=cpu", "token"]
    open_to_all(container.root)
    token.chmod(0o400)
    done = subprocess.run(
        [
            *("setpriv", "--reuid=4711", "--regid=4711", "--clear-groups"),
            *("sh", str(container.root / "entrypoint.sh"), "check", "--device=cpu"),
        ],
        env={"PATH": f"{container.root}/bin:{os.environ['PATH']}", "HF_TOKEN_PATH": str(token)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert passed_on(done) == ["check", "--device=cpu"]
    (line,) = lines(done)
    assert "may not read the hub token" in line["message"]
    assert "hf_secret" not in done.stderr


def test_a_folder_in_the_place_of_the_token_is_left_out_with_a_warning(
    container: Container,
) -> None:
    folder = container.root / "hf_token"
    folder.mkdir()
    done = container.run("check", "--device=cpu", HF_TOKEN_PATH=str(folder))
    assert passed_on(done) == ["check", "--device=cpu"]
    (line,) = lines(done)
    assert (line["event"], line["level"]) == ("container.token", "warning")
    assert "is a folder" in line["message"]


def test_what_it_says_is_json_whatever_a_path_holds(container: Container) -> None:
    out = str(container.root / "data" / 'a"b\\c\nd' / "out")
    (line,) = lines(container.run("run", "x", f"--out={out}", "--device=cpu", mounted=False))
    assert line["event"] == "container.refused"


def test_every_event_is_documented() -> None:
    events = set(re.findall(r"container\.[a-z]+", SCRIPT))
    documented = (ROOT / "docs" / "logs.md").read_text(encoding="utf-8")
    assert len(events) == 4
    for event in events:
        assert f"`{event}`" in documented, event
