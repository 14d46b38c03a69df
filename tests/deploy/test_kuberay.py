"""The RayJob asks for what its command needs, in pods as guarded as those of the Jobs."""

from __future__ import annotations

import re
import shlex
from typing import Any

import kubernetes_validate
import pytest
import yaml
from check_locks import KUBERAY, read_lock
from deployed import DEPLOY, ROOT, settings_of, understood

import atp

JOB = yaml.safe_load((DEPLOY / "kuberay" / "atp.yaml").read_text(encoding="utf-8"))["spec"]
CLUSTER = JOB["rayClusterSpec"]
HEAD = CLUSTER["headGroupSpec"]
(WORKERS,) = CLUSTER["workerGroupSpecs"]
SHARDS = yaml.safe_load(
    (DEPLOY / "kubernetes" / "sharded" / "shards.yaml").read_text(encoding="utf-8")
)["spec"]["template"]["spec"]
GROUP = pytest.mark.parametrize("group", [HEAD, WORKERS], ids=["head", "workers"])


def container(group: dict[str, Any]) -> dict[str, Any]:
    """Return the one container of a group's pods."""
    (found,) = group["template"]["spec"]["containers"]
    return found


@GROUP
def test_its_pods_fit_the_schema_of_kubernetes(group: dict[str, Any]) -> None:
    template = group["template"]
    pod = {"apiVersion": "v1", "kind": "Pod"} | template
    kubernetes_validate.validate(pod, "1.33", strict=True)
    unknown = pod | {"spec": template["spec"] | {"restartPolicies": "Never"}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(unknown, "1.33", strict=True)


@GROUP
def test_its_pods_have_the_volume_and_no_rights_they_do_not_need(group: dict[str, Any]) -> None:
    spec, shard = group["template"]["spec"], SHARDS["containers"][0]
    for name in ("securityContext", "automountServiceAccountToken"):
        assert spec[name] == SHARDS[name]
    for name in ("securityContext", "volumeMounts", "envFrom", "env"):
        assert container(group)[name] == shard[name]
    assert spec["volumes"][0] == SHARDS["volumes"][0]


@GROUP
def test_its_image_has_the_version_of_atp_and_of_ray(group: dict[str, Any]) -> None:
    assert container(group)["image"] == f"registry.example.com/atp:{atp.__version__}-kuberay"
    lock, _ = read_lock(KUBERAY, (ROOT / KUBERAY).read_text())
    assert CLUSTER["rayVersion"] == str(lock["ray"])


def test_the_command_is_one_of_atp_and_has_a_gpu_for_each_worker() -> None:
    program, *arguments = shlex.split(JOB["entrypoint"])
    assert program == "atp"
    understood(arguments)
    given = {each["name"]: each["value"] for each in container(HEAD)["env"]}
    assert settings_of(arguments, given).device == "cuda"
    assert not re.search(r"[;&|$\"']", JOB["entrypoint"])  # a shell of the operator reads it, too
    gpus = container(WORKERS)["resources"]["limits"]["nvidia.com/gpu"]
    assert f"--workers={WORKERS['replicas'] * gpus}" in arguments
    assert WORKERS["minReplicas"] == WORKERS["maxReplicas"] == WORKERS["replicas"]


def test_the_head_computes_nothing_and_workers_may_run_beside_other_pods_of_gpus() -> None:
    assert HEAD["rayStartParams"]["num-cpus"] == "0"
    assert "nvidia.com/gpu" not in str(container(HEAD)["resources"])
    assert WORKERS["template"]["spec"]["tolerations"] == SHARDS["tolerations"]


def test_a_lost_head_is_replaced_and_no_cluster_is_left_over() -> None:
    assert JOB["backoffLimit"] >= 1
    assert JOB["shutdownAfterJobFinishes"] is True
    assert CLUSTER["authOptions"] == {"mode": "token"}
