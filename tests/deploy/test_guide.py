"""docs/scheduled-runs.md says commands that exist, of files that exist."""

from __future__ import annotations

import re
import shlex

import pytest
from deployed import DEPLOY, ROOT, docker_run, understood

GUIDE = ROOT / "docs" / "scheduled-runs.md"
TEXT = GUIDE.read_text(encoding="utf-8")
CLUSTERS = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
COMMANDS = [
    line.strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]
CONTAINERS = [line for line in COMMANDS if line.startswith("sudo docker run ")]


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) >= 30
    assert len(CONTAINERS) == 2


@pytest.mark.parametrize("line", CONTAINERS)
def test_a_container_of_the_guide_has_the_volume_and_is_understood(line: str) -> None:
    found = docker_run(shlex.split(line)[3:])
    assert found.mount("/data")["source"] == "/srv/atp"
    assert found.options["--env-file"] == ["/etc/atp/atp.env"]
    assert found.image == "atp:latest"
    assert bool(found.mount("/run/secrets/hf_token")) == (found.arguments == ["fetch"])
    understood(found.arguments)


def test_its_files_are_there() -> None:
    for name in re.findall(r"deploy/[\w./-]+\w", TEXT + CLUSTERS):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"-f ((?:sharded/)?\w+\.yaml)", TEXT):
        assert (DEPLOY / "kubernetes" / name).is_file(), name
    for name in re.findall(r"\]\((?!https:)([^)#]+)\)", TEXT):
        assert (GUIDE.parent / name).is_file(), name


def test_it_installs_every_file_of_deploy() -> None:
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            of_clusters = path.parent.name in {"slurm", "kuberay", "skypilot"}
            assert path.name in (CLUSTERS if of_clusters else TEXT), path


def test_the_image_that_it_replaces_is_the_one_in_the_manifests() -> None:
    (image,) = re.findall(r"sed -i 's#([^#]+)#YOUR/IMAGE:TAG#'", TEXT)
    for path in (DEPLOY / "kubernetes").rglob("*.yaml"):
        images = re.findall(r"image: (.*)", path.read_text(encoding="utf-8"))
        assert set(images) <= {image}, path
