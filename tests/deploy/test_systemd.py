"""The units are valid, start the container as it is meant to run, and try again what may mend."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from deployed import DEPLOY, ROOT, Container, docker_run, env_file, settings_of

from atp.errors import ExitCode

UNITS = DEPLOY / "systemd"
GUIDE = (ROOT / "docs" / "scheduled-runs.md").read_text(encoding="utf-8")
HOST_UNITS = Path("/usr/lib/systemd/system")

ANALYZE, DOCKER = shutil.which("systemd-analyze") or "", shutil.which("docker") or ""

needs_systemd = pytest.mark.skipif(
    not (ANALYZE and HOST_UNITS.is_dir()),
    reason="systemd-analyze is not installed",
)
needs_docker = pytest.mark.skipif(not DOCKER, reason="docker is not installed")

Unit = dict[str, list[str]]


def read_unit(text: str) -> Unit:
    """Return the settings of a unit; each may stand several times."""
    found: Unit = defaultdict(list)
    for line in text.replace("\\\n", " ").splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found[name].append(value)
    return found


SERVICE = read_unit((UNITS / "atp.service").read_text(encoding="utf-8"))
TIMER = read_unit((UNITS / "atp.timer").read_text(encoding="utf-8"))


def command(unit: Unit, name: str) -> list[str]:
    """Return the one command of ExecStart= and its like."""
    (line,) = unit[name]
    return shlex.split(line.removeprefix("-"))


def container() -> Container:
    program, verb, *rest = command(SERVICE, "ExecStart")
    assert [program, verb] == ["/usr/bin/docker", "run"]
    return docker_run(rest)


def seconds(text: str) -> int:
    """Read 45, 2min or 6h."""
    number, unit = re.fullmatch(r"(\d+)(min|h)?", text).groups()  # type: ignore[union-attr]
    return int(number) * {None: 1, "min": 60, "h": 3600}[unit]


def verify(machine: Path) -> str:
    """Return what systemd-analyze has to say of the units of a machine: nothing, of good ones."""
    done = subprocess.run(
        [ANALYZE, "verify", "--man=no", f"--root={machine}", "atp.service", "atp.timer"],
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    return said if said or not done.returncode else f"exit code {done.returncode}"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The root of a machine with systemd's own units, docker and podman, and atp's units."""
    shutil.copytree(HOST_UNITS, tmp_path / "usr/lib/systemd/system", symlinks=True)
    (tmp_path / "usr/bin").mkdir()
    for name in ("docker", "podman"):
        program = tmp_path / "usr/bin" / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    ours = tmp_path / "etc/systemd/system"
    ours.mkdir(parents=True)
    (ours / "docker.service").write_text("[Service]\nExecStart=/usr/bin/docker\n")
    for name in ("atp.service", "atp.timer"):
        shutil.copy(UNITS / name, ours)
    return tmp_path


@needs_systemd
def test_the_units_pass_systemd_analyze(machine: Path) -> None:
    assert verify(machine) == ""


@needs_systemd
@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("Restart=on-failure", "Restarts=on-failure"),
        ("Restart=on-failure", "Restart=sometimes"),
        ("Type=exec", "Type=job"),
        ("TimeoutStopSec=45", "TimeoutStopSec=soon"),
        ("StartLimitIntervalSec=6h", "StartLimitIntervalSec=a while"),
        ("Requires=docker.service", "Requires=no-such.service"),
        ("ExecStart=/usr/bin/docker", "ExecStart=/opt/docker"),
        ("OnCalendar=*-*-* 02:00:00", "OnCalendar=*-*-* 25:00:00"),
        ("[Timer]", "[Timers]"),
    ],
)
def test_a_doctored_unit_is_found_out(machine: Path, good: str, bad: str) -> None:
    paths = [machine / "etc/systemd/system" / name for name in ("atp.service", "atp.timer")]
    (path,) = [path for path in paths if good in path.read_text()]
    path.write_text(path.read_text().replace(good, bad))
    assert verify(machine) != ""


@needs_systemd
def test_the_guides_drop_ins_pass_systemd_analyze(machine: Path) -> None:
    blocks = re.findall(r"```ini\n# (/etc/\S+)\n(.*?)```", GUIDE, flags=re.DOTALL)
    assert len(blocks) >= 2
    for path, text in blocks:
        file = machine / path.removeprefix("/")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text.replace("/usr/local/bin/alert", "/usr/bin/docker"))
    assert verify(machine) == ""


@needs_systemd
def test_the_guides_line_for_podman_makes_a_valid_unit_without_docker(machine: Path) -> None:
    (script,) = re.findall(r"^sed '([^']*podman[^']*)'", GUIDE, flags=re.MULTILINE)
    unit = machine / "etc/systemd/system/atp.service"
    subprocess.run(["/usr/bin/sed", "--in-place", script, unit], check=True)
    (machine / "usr/bin/docker").unlink()
    (machine / "etc/systemd/system/docker.service").unlink()
    assert verify(machine) == ""
    program, *_ = command(read_unit(unit.read_text()), "ExecStart")
    assert program == "/usr/bin/podman"
    assert "nvidia.com/gpu=all" in unit.read_text()
    assert "--gpus" not in unit.read_text()


def test_the_container_has_a_gpu_the_volume_and_nothing_else() -> None:
    found = container()
    assert found.options["--gpus"] == ["all"]
    assert found.mount("/data")["source"] == "/srv/atp"
    assert len(found.options["--mount"]) == 1  # no token
    assert found.options["--network"] == ["none"]
    assert found.options["--cap-drop"] == ["ALL"]
    assert found.options["--security-opt"] == ["no-new-privileges"]
    assert found.options["--tmpfs"] == ["/tmp"]  # noqa: S108  (in the container)
    assert found.options["--pull"] == ["never"]
    assert {"--read-only", "--rm"} <= found.options.keys()
    assert found.image == "atp:latest"


def test_its_settings_are_settings_of_atp() -> None:
    examples = env_file(DEPLOY / "atp.env")
    assert len(examples) >= 3
    found = settings_of(container().arguments, examples | container().environment)
    assert found.device == "cuda"  # else a lost GPU would be computed without
    assert found.model == examples["ATP_MODEL"]


def test_the_env_file_is_the_one_docker_reads_without_quotes() -> None:
    assert container().options["--env-file"] == ["/etc/atp/atp.env"]
    assert not any('"' in value or "'" in value for value in env_file(DEPLOY / "atp.env").values())


def test_a_stop_has_time_to_save_before_docker_kills_and_before_systemd_does() -> None:
    grace = int(container().options["--stop-timeout"][0])
    assert grace >= 15
    assert command(SERVICE, "ExecStop")[1:] == ["stop", *container().options["--name"]]
    assert seconds(SERVICE["TimeoutStopSec"][0]) > grace
    assert SERVICE["Type"] == ["exec"]  # ExecStop= is not for a oneshot that still runs


def test_what_a_killed_client_left_is_removed_first() -> None:
    assert command(SERVICE, "ExecStartPre")[1:] == ["rm", "--force", *container().options["--name"]]
    assert SERVICE["ExecStartPre"][0].startswith("-")  # there may be none


def test_it_is_started_again_where_that_may_mend_and_never_where_a_person_must() -> None:
    assert SERVICE["Restart"] == ["on-failure"]
    never = {int(code) for code in SERVICE["RestartPreventExitStatus"][0].split()}
    assert never == {ExitCode.PAIRS_FAILED, ExitCode.USAGE, ExitCode.BUG}
    stopped = {int(code) for code in SERVICE["SuccessExitStatus"][0].split()}
    assert stopped == {ExitCode.TERMINATED}  # a stop is neither a failure nor undone


def test_it_gives_up_by_day_and_tries_again_the_next_night() -> None:
    limit = seconds(SERVICE["StartLimitIntervalSec"][0])
    tries = int(SERVICE["StartLimitBurst"][0])
    pause = seconds(SERVICE["RestartSec"][0])
    assert 5 * 60 <= tries * pause < limit < 24 * 3600


def test_it_waits_for_docker_and_the_disk_and_stops_before_them() -> None:
    assert SERVICE["Requires"] == SERVICE["After"] == ["docker.service"]
    assert SERVICE["RequiresMountsFor"] == [container().mount("/data")["source"]]


def test_the_timer_makes_up_for_a_missed_night_and_goes_on_after_a_boot() -> None:
    assert TIMER["Persistent"] == ["true"]
    assert seconds(TIMER["OnBootSec"][0]) <= 5 * 60
    assert TIMER["WantedBy"] == ["timers.target"]


@needs_docker
@pytest.mark.parametrize("name", ["ExecStartPre", "ExecStart", "ExecStop"])
def test_the_real_client_understands_its_commands(tmp_path: Path, name: str) -> None:
    settings = tmp_path / "atp.env"
    shutil.copy(DEPLOY / "atp.env", settings)
    argv = command(SERVICE, name)[1:]
    argv = [str(settings) if each == "/etc/atp/atp.env" else each for each in argv]
    done = subprocess.run(
        [DOCKER, "--host", f"unix://{tmp_path}/none", *argv],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Cannot connect to the Docker daemon" in done.stderr, done.stderr


@pytest.mark.parametrize("code", [0, *ExitCode, 125, 137])
def test_the_guide_says_what_to_do_about_each_exit_code(code: int) -> None:
    table = GUIDE.partition("| exit code |")[2]
    codes = re.findall(r"^\| ([\d, ]+) \|", table, flags=re.MULTILINE)
    assert str(int(code)) in ", ".join(codes).split(", ")
