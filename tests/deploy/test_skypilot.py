"""The SkyPilot task starts containers that atp understands, and results reach the bucket."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from deployed import DEPLOY, settings_of, understood

TASK = yaml.safe_load((DEPLOY / "skypilot" / "atp.yaml").read_text(encoding="utf-8"))
DOCKER = """
printf '%q ' "$@" >>"$HOME/docker"; echo >>"$HOME/docker"
case $* in
*workers*) echo scored >"$HOME/atp/results/of-this-run"; exit "$CODE" ;;
esac
"""
"""Stands in for docker: it records its arguments, and a run leaves a file."""
SUDO = 'exec env --ignore-environment HOME="$HOME" PATH="$PATH" CODE="$CODE" "$@"'
"""Stands in for sudo: it keeps nothing of the environment but what the stand-ins need."""


def start(home: Path, code: int) -> subprocess.CompletedProcess[str]:
    """Do the task's setup and run, with a bucket that holds an earlier result."""
    for name in ("bin", "bucket/input", "bucket/results"):
        (home / name).mkdir(parents=True)
    (home / "bucket" / "input" / "feedback.json").write_text("{}")
    (home / "bucket" / "results" / "of-an-earlier-run").write_text("kept")
    for name, script in {"sudo": SUDO, "docker": DOCKER}.items():
        (home / "bin" / name).write_text(f"#!/bin/bash\n{script}\n")
        (home / "bin" / name).chmod(0o755)
    script = (TASK["setup"] + TASK["run"]).replace("/bucket", f"{home}/bucket")
    given = {
        "HOME": str(home),
        "PATH": f"{home}/bin:{os.environ['PATH']}",
        "CODE": str(code),
        "HF_TOKEN": "hf_secret",
        "SKYPILOT_NUM_GPUS_PER_NODE": "8",
    }
    return subprocess.run(
        ["bash", "-c", script],
        env=TASK["envs"] | given,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("code", [0, 1, 3])
def test_a_task_takes_earlier_results_and_leaves_all_in_the_bucket(
    tmp_path: Path, code: int
) -> None:
    done = start(tmp_path, code)
    assert done.returncode == code, done
    assert (tmp_path / "atp" / "input" / "feedback.json").exists()
    assert (tmp_path / "atp" / "results" / "of-an-earlier-run").read_text() == "kept"
    assert (tmp_path / "bucket" / "results" / "of-this-run").read_text() == "scored\n"
    assert (tmp_path / "atp-hf-token").stat().st_mode & 0o077 == 0


def test_its_containers_are_a_fetch_with_the_token_and_a_run_on_all_gpus_without(
    tmp_path: Path,
) -> None:
    start(tmp_path, 0)
    image = TASK["envs"]["IMAGE"]
    pull, fetch, run = map(shlex.split, (tmp_path / "docker").read_text().splitlines())
    assert pull == ["pull", "--quiet", image]
    assert understood(fetch[fetch.index(image) + 1 :]).command == "fetch"
    arguments = run[run.index(image) + 1 :]
    assert arguments == ["--workers=8"]
    words = run[: run.index(image)]
    values = dict(
        word.split("=", 1) for word in words if word.startswith(("ATP_", "HF_")) and "=" in word
    )
    settings = settings_of(arguments, values)
    assert settings.device == "cuda"
    assert settings.model == TASK["envs"]["ATP_MODEL"]
    assert settings.hook_layer == (int(TASK["envs"]["ATP_HOOK_LAYER"]),)
    assert any("hf-token" in word for word in fetch)
    assert not any("hf-token" in word for word in run)
    assert "hf_secret" not in (tmp_path / "docker").read_text()


def test_it_asks_for_spot_machines_and_keeps_results_in_a_bucket() -> None:
    assert TASK["resources"]["use_spot"] is True
    assert TASK["resources"]["accelerators"].endswith(":8")
    assert TASK["file_mounts"]["/bucket"]["mode"] == "MOUNT"
