"""The batch scripts for Slurm start what they should, resume, and merge to the bytes of one run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import runs
import slurm_node
import tiny
from deployed import DEPLOY, settings_of, understood

FOLDER = DEPLOY / "slurm"
NODE, SHARDS, MERGE = (FOLDER / f"{name}.sbatch" for name in ("node", "shards", "merge"))
OF_SLURM = {
    "SLURM_JOB_ID": "17",
    "SLURM_CPUS_ON_NODE": "4",
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_ARRAY_TASK_COUNT": "4",
}
needs_slurm = pytest.mark.skipif(
    not slurm_node.AVAILABLE,
    reason=f"starts Slurm as root; missing: {', '.join(slurm_node.MISSING) or 'root'}",
)


@dataclass
class Started:
    """What a script started, and how it ended."""

    code: int
    atp: list[str]
    environment: dict[str, str]
    srun: list[str]
    requeued: bool


def start(folder: Path, script: Path, *arguments: str, code: int = 0) -> Started:
    """Run a script where `srun` and `scontrol` record their arguments, and atp ends with a code."""
    for name in ("bin", ".venv/bin"):
        (folder / name).mkdir(parents=True)
    for place, lines in {
        ".venv/bin/atp": f'printf "%s\\n" "$@" >atp; env >env; exit {code}',
        "bin/srun": 'for word in "$@"; do case $word in -*) echo "$word" >>srun; shift ;; '
        '*) exec "$@" ;; esac; done',
        "bin/scontrol": 'echo "$@" >scontrol',
    }.items():
        (folder / place).write_text(f"#!/bin/bash\n{lines}\n")
        (folder / place).chmod(0o755)
    path = {"PATH": f"{folder}/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", script, *arguments], cwd=folder, env=OF_SLURM | path, check=False
    )
    lines = {
        name: (folder / name).read_text().splitlines() if (folder / name).exists() else []
        for name in ("atp", "env", "srun", "scontrol")
    }
    found = dict(line.split("=", 1) for line in lines["env"] if "=" in line)
    assert lines["scontrol"] in ([], ["requeue 17"])
    return Started(done.returncode, lines["atp"], found, lines["srun"], bool(lines["scontrol"]))


def directives(script: Path) -> dict[str, str]:
    """Return the #SBATCH lines of a script."""
    lines = re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", script.read_text(), flags=re.MULTILINE)
    return dict(lines)


def test_a_node_runs_one_worker_on_each_gpu(tmp_path: Path) -> None:
    found = start(tmp_path, NODE, "my file.json", "--top-k=10")
    assert found.atp == ["run", "--engine=ray", "my file.json", "--top-k=10"]
    understood(found.atp)
    assert found.srun == ["--ntasks=1", "--cpus-per-task=4"]
    assert (found.environment["ATP_DEVICE"], found.environment["HF_HUB_OFFLINE"]) == ("cuda", "1")


def test_each_shard_has_its_number_its_folder_and_the_same_batches(tmp_path: Path) -> None:
    found = start(tmp_path, SHARDS, "in.json", "my results", "--top-k=10")
    shard = ["--shard=3/4", "--out=my results/shard-3"]
    assert found.atp == ["run", "in.json", "--top-k=10", *shard]
    understood(found.atp)
    assert found.environment["ATP_BATCH_TOKENS"].isdigit()
    assert directives(SHARDS)["array"].startswith("0-")  # shards count from 0


def test_a_shard_may_split_its_model_over_the_gpus_of_its_node(tmp_path: Path) -> None:
    found = start(tmp_path, SHARDS, "in.json", "out", "--device-map=auto", "--model=m")
    assert "ATP_DEVICE" not in found.environment
    settings = settings_of(found.atp, found.environment)
    assert (settings.device, settings.device_map) == (None, "auto")


def test_the_merge_takes_and_fills_the_folder_of_the_shards(tmp_path: Path) -> None:
    found = start(tmp_path, MERGE, "my results")
    assert found.atp == ["merge", "my results", "--out=my results"]
    understood(found.atp)


@pytest.mark.parametrize(
    ("script", "code", "expected"),
    [
        (NODE, 1, 1),
        (NODE, 2, 2),
        (NODE, 143, 143),
        (SHARDS, 1, 0),  # complete: else the merge would never start
        (SHARDS, 3, 3),
        (SHARDS, 143, 143),
    ],
)
def test_a_run_that_was_stopped_is_queued_again_and_no_other(
    tmp_path: Path, script: Path, code: int, expected: int
) -> None:
    found = start(tmp_path, script, "in.json", "out", code=code)
    assert found.code == expected
    assert found.requeued == (code == 143)


@pytest.mark.parametrize("script", [NODE, SHARDS])
def test_atp_has_time_to_save_and_its_log_survives_a_requeue(script: Path) -> None:
    found = directives(script)
    name, seconds = found["signal"].split("@")
    assert name == "TERM"  # without B: to what srun started
    assert int(seconds) >= 60  # Slurm looks once a minute
    assert "requeue" in found
    assert found["open-mode"] == "append"


@needs_slurm
@pytest.mark.slow
def test_slurm_runs_the_scripts_to_the_scores_of_one_run(tmp_path: Path) -> None:
    tiny.save_model(tmp_path / "tiny", "gpt2")
    tiny.make_sae("standard").save_model(tmp_path / "sae")
    runs.write(tmp_path / "in.json", tiny.questions(10))
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "slurm").mkdir()
    ours = {"ATP_DEVICE": "cpu", "ATP_BATCH_TOKENS": "500", "ATP_MODEL": "tiny", "ATP_SAE": "sae"}
    with slurm_node.running(tmp_path / "slurm") as environment:

        def command(*words: str | Path) -> str:
            done = subprocess.run(
                words,
                cwd=tmp_path,
                env=environment | ours,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done
            return done.stdout.strip()

        small = ("--mem=1G", "--cpus-per-task=1")
        shards = command("sbatch", "--parsable", "--array=0-1", *small, SHARDS, "in.json", "out")
        after = f"--dependency=afterok:{shards}"
        merge = command("sbatch", "--parsable", after, "--mem=1G", MERGE, "out")
        two = ("--gpus-per-node=2", "--mem=4G")
        node = command("sbatch", "--parsable", *two, NODE, "in.json", "--out=node", "--workers=2")
        states = [slurm_node.wait_for(job, environment) for job in (merge, node)]
        logs = [path.read_text() for path in tmp_path.glob("slurm-*.out")]
        assert states == ["COMPLETED", "COMPLETED"], logs
        command(".venv/bin/atp", "run", "in.json", "--out=plain")
    merged, of_node, plain = (
        runs.read(next((tmp_path / name).glob("*.json"))) for name in ("out", "node", "plain")
    )
    assert merged["results"] == of_node["results"] == plain["results"]
