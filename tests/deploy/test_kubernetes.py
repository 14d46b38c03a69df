"""The manifests fit the Kubernetes schema and say of each pod what a preempted run needs."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml
from deployed import DEPLOY, ROOT, settings_of, understood

from atp.errors import ExitCode

FOLDER = DEPLOY / "kubernetes"
OLDEST = "1.33"
"""What the guide asks for: from then on all fields used here are stable."""

Document = dict[str, Any]

DOCUMENTS: dict[str, Document] = {
    f"{path.relative_to(FOLDER)}:{document['kind']}": document
    for path in sorted(FOLDER.rglob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
}
NIGHTLY, SHARDS = "nightly.yaml:CronJob", "sharded/shards.yaml:Job"
FETCH, MERGE, FILES = "fetch.yaml:Job", "sharded/merge.yaml:Job", "files.yaml:Pod"
SETTINGS = DOCUMENTS["data.yaml:ConfigMap"]["data"]


def job(name: str) -> Document:
    """Return the specification of a Job, or of the Job that a CronJob makes."""
    found = DOCUMENTS[name]["spec"]
    return found["jobTemplate"]["spec"] if DOCUMENTS[name]["kind"] == "CronJob" else found


def pod(name: str) -> Document:
    """Return the specification of a pod."""
    found = DOCUMENTS[name]
    return found["spec"] if found["kind"] == "Pod" else job(name)["template"]["spec"]


def container(name: str) -> Document:
    """Return the one container of a pod."""
    (found,) = pod(name)["containers"]
    return found


def environment(name: str) -> dict[str, str]:
    """Return what a container finds in its environment."""
    given = container(name)
    shared = SETTINGS if given.get("envFrom") else {}
    return shared | {each["name"]: each["value"] for each in given.get("env", [])}


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the place of every object inside a document."""
    if isinstance(value, dict):
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore[call-overload]
    for key, inner in items:
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


PODS = pytest.mark.parametrize("name", [NIGHTLY, SHARDS, FETCH, MERGE, FILES])
JOBS = pytest.mark.parametrize("name", [NIGHTLY, SHARDS, FETCH, MERGE])
ON_GPU = pytest.mark.parametrize("name", [NIGHTLY, SHARDS])


def test_these_are_all_documents() -> None:
    claims = {"data.yaml:PersistentVolumeClaim", "data.yaml:ConfigMap"}
    assert DOCUMENTS.keys() == {NIGHTLY, SHARDS, FETCH, MERGE, FILES, *claims}


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("name", DOCUMENTS)
def test_it_fits_the_schema(name: str, version: str) -> None:
    kubernetes_validate.validate(DOCUMENTS[name], version, strict=True)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_an_unknown_field_is_found_out_wherever_it_stands(name: str) -> None:
    free = {"labels", "data", "limits", "requests"}
    for place in places(DOCUMENTS[name]):
        if place and place[-1] in free:
            continue
        doctored = copy.deepcopy(DOCUMENTS[name])
        target: Any = doctored
        for key in place:
            target = target[key]
        target["restartPolicies"] = "Never"
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(doctored, OLDEST, strict=True)


@PODS
def test_a_pod_has_no_rights_it_does_not_need(name: str) -> None:
    rights = pod(name)["securityContext"]
    assert rights["runAsNonRoot"] is True
    assert rights["runAsUser"] == rights["runAsGroup"] == rights["fsGroup"] == 10001
    assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(name)["automountServiceAccountToken"] is False


@PODS
def test_a_pod_has_the_volume_and_only_fetch_the_token(name: str) -> None:
    volumes = {volume["name"]: volume for volume in pod(name)["volumes"]}
    claim = DOCUMENTS["data.yaml:PersistentVolumeClaim"]["metadata"]["name"]
    mounts = {
        mount["mountPath"]: volumes[mount["name"]] for mount in container(name)["volumeMounts"]
    }
    assert mounts["/data"]["persistentVolumeClaim"]["claimName"] == claim
    assert ("/run/secrets" in mounts) == (name == FETCH)
    assert any("secret" in volume for volume in volumes.values()) == (name == FETCH)
    if name != FILES:
        assert "sizeLimit" in mounts["/tmp"]["emptyDir"]  # noqa: S108  (in the container)


def test_the_token_is_readable_by_the_group_of_the_pod_alone() -> None:
    (secret,) = [each["secret"] for each in pod(FETCH)["volumes"] if "secret" in each]
    assert secret["defaultMode"] == 0o440
    assert secret["optional"] is True  # open models need none


def test_there_is_no_token_in_any_file() -> None:
    for path in [*DEPLOY.rglob("*"), ROOT / "docs" / "scheduled-runs.md"]:
        if path.is_file():
            assert not re.search(r"hf_[A-Za-z]{10}|HF_TOKEN=", path.read_text(encoding="utf-8"))
    assert "Secret" not in {document["kind"] for document in DOCUMENTS.values()}


@ON_GPU
def test_a_run_asks_for_one_gpu_and_does_not_do_without(name: str) -> None:
    assert container(name)["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod(name)[
        "tolerations"
    ]
    assert environment(name)["ATP_DEVICE"] == "cuda"
    assert environment(name)["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize("name", [FETCH, MERGE, FILES])
def test_what_computes_nothing_holds_no_gpu(name: str) -> None:
    assert "nvidia.com/gpu" not in str(container(name)["resources"])


@PODS
def test_a_run_is_what_atp_understands(name: str) -> None:
    if "command" not in container(name):
        understood([str(each) for each in container(name).get("args", [])])


@ON_GPU
def test_the_settings_are_settings_of_atp(name: str) -> None:
    assert settings_of([], environment(name)).model == SETTINGS["ATP_MODEL"]


@JOBS
def test_a_preempted_pod_is_no_failure_and_has_time_to_save(name: str) -> None:
    assert pod(name)["restartPolicy"] == "Never"  # a podFailurePolicy wants it
    assert pod(name)["terminationGracePeriodSeconds"] >= 15
    assert job(name)["podFailurePolicy"]["rules"][0] == {
        "action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }


@JOBS
def test_it_is_tried_again_where_that_may_mend_and_never_where_a_person_must(name: str) -> None:
    rules = job(name)["podFailurePolicy"]["rules"]
    actions = {
        code: rule["action"]
        for rule in rules
        if "onExitCodes" in rule
        for code in rule["onExitCodes"]["values"]
    }
    end = "FailIndex" if name == SHARDS else "FailJob"
    never = {ExitCode.PAIRS_FAILED, ExitCode.USAGE, ExitCode.BUG}
    stopped = {ExitCode.TERMINATED: "Ignore"} if name in {NIGHTLY, SHARDS} else {}
    assert actions == dict.fromkeys(never, end) | stopped
    for rule in rules:
        if "onExitCodes" in rule:
            assert rule["onExitCodes"]["containerName"] == container(name)["name"]
            assert rule["onExitCodes"]["operator"] == "In"
    assert job(name)["backoffLimitPerIndex" if name == SHARDS else "backoffLimit"] >= 3


def test_one_night_does_not_run_into_the_next() -> None:
    nightly = DOCUMENTS[NIGHTLY]["spec"]
    assert nightly["concurrencyPolicy"] == "Forbid"
    assert 0 < nightly["startingDeadlineSeconds"] < 24 * 3600
    assert nightly["timeZone"]
    assert len(nightly["schedule"].split()) == 5


def test_each_shard_has_its_number_its_folder_and_the_same_batches() -> None:
    arguments = container(SHARDS)["args"]
    count = job(SHARDS)["completions"]
    assert job(SHARDS)["completionMode"] == "Indexed"
    assert job(SHARDS)["parallelism"] == count
    assert f"--shard=$(JOB_COMPLETION_INDEX)/{count}" in arguments
    (out,) = [each for each in arguments if each.startswith("--out=")]
    merged = container(MERGE)["args"][1]
    assert out == f"--out={merged}/shard-$(JOB_COMPLETION_INDEX)"
    assert any(each.startswith("--batch-tokens=") for each in arguments)


def test_all_pods_run_the_same_image_by_version() -> None:
    images = {container(name)["image"] for name in (NIGHTLY, SHARDS, FETCH, MERGE, FILES)}
    (image,) = images
    assert re.fullmatch(r"registry\.example\.com/atp:\d+\.\d+\.\d+", image)
