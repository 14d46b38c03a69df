"""The exports: what Neuronpedia's and lm-eval's own readers take, and what they cannot hold."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_scores import MODEL, made, source
from runs import events, read

from atp.cli.main import main
from atp.errors import ExitCode

RELEASE, HASH = "gemma-scope-9b-it-res-canonical", "d" * 64
LISTED: dict[str, Any] = {
    "spec": f"{RELEASE}:layer_31/width_16k/canonical",
    "path": "layer_31/width_16k/average_l0_76",
    "hook_name": "blocks.31.hook_resid_post",
    "d_sae": 64,
    "sha256": HASH,
}
BOTH, TOP = "--export=neuronpedia,lm-eval", 3
HEAD = (
    "loader,action,sparse_model,hookpoint,feature_index,steering_coefficient,head_index,sae_id,"
    "description"
)
"""Of the CSV, as lm-eval documents it."""

Run = Callable[..., tuple[int, list[Path], list[dict[str, Any]]]]


@pytest.fixture
def export(
    tmp_path: Path, model_folder: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> Run:
    """Return a function that exports made-up features of an SAE, on a model of an architecture."""

    def run(
        sae: dict[str, Any], *options: str, architecture: str = "gemma2"
    ) -> tuple[int, list[Path], list[dict[str, Any]]]:
        settings = {"model": str(model_folder(architecture))}
        changed = {"saes": [sae], "settings": settings}
        file = made(tmp_path / "in", source(tmp_path), changed=changed)
        chosen = ["--min-log-ratio=none", "--resamples=100", f"--top-features={TOP}"]
        code = main(["features", str(file), *chosen, *options, f"--out={tmp_path / 'out'}"])
        out, err = capfd.readouterr()
        return code, [Path(line) for line in out.splitlines()], events(err)

    return run


def features_of(paths: list[Path]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Return the selected features of a features file, and the numbers of all."""
    (found,) = read(paths[-1])["saes"]
    return found["selected"], {each["id"]: each for each in found["features"]}


def test_a_list_for_neuronpedia_follows_the_schema_of_its_request(export: Run) -> None:
    """name: required text; features: modelId, layer: text, index: whole number, required."""
    code, paths, _ = export(LISTED, "--export=neuronpedia")

    assert code == ExitCode.OK
    assert paths[0].name.startswith("atp_export_tiny_")
    assert [path.name.partition(".")[2] for path in paths] == [
        *("neuronpedia.json", "csv", "parquet", "json"),
    ]
    body = read(paths[0])
    assert body.keys() == {"name", "description", "features"}
    assert body["name"] == f"Features that make {MODEL['name']} sycophantic (atp)"
    assert LISTED["spec"] in body["description"]
    selected, numbers = features_of(paths)
    assert len(selected) == TOP
    assert [each["index"] for each in body["features"]] == [int(each) for each in selected]
    for feature, item in zip(selected, body["features"], strict=True):
        assert item.keys() == {"modelId", "layer", "index", "description"}
        assert (item["modelId"], item["layer"]) == ("gemma-2-9b-it", "31-gemmascope-res-16k")
        assert f"{numbers[feature]['mean_best']:+.4g} logits" in item["description"]


def test_lm_eval_takes_the_direction_of_the_strongest_feature_out_of_a_layer(export: Run) -> None:
    code, paths, log = export(LISTED, "--export=lm-eval")

    assert code == ExitCode.OK
    assert paths[0].name.endswith(".lm_eval.csv")
    text = paths[0].read_text(encoding="utf-8")
    assert text.startswith(f"{HEAD}\n")
    rows = list(csv.DictReader(text.splitlines()))
    selected, _ = features_of(paths)
    assert [row["feature_index"] for row in rows] == selected[::-1]  # its reader keeps the last
    for row in rows:
        assert (row["loader"], row["sparse_model"]) == ("sae_lens", RELEASE)
        assert row["sae_id"] == "layer_31/width_16k/canonical"
        assert (row["action"], float(row["steering_coefficient"])) == ("clamp", 0)
        assert (row["hookpoint"], row["head_index"]) == ("layers.31", "")
    warning = next(line for line in log if line["event"] == "features.lm_eval")
    assert warning["strongest"] == {LISTED["spec"]: selected[:1]}


@pytest.mark.parametrize(
    ("architecture", "hook_name", "module"),
    [
        ("gpt2", "blocks.1.hook_resid_post", "h.1"),
        ("gemma3_multimodal", "blocks.1.hook_resid_post", "language_model.layers.1"),
        ("gpt_neox", "blocks.2.hook_resid_pre", "layers.1"),
    ],
)
def test_a_hook_point_is_a_module_of_the_plain_model(
    export: Run,
    model_folder: Callable[[str], Path],
    architecture: str,
    hook_name: str,
    module: str,
) -> None:
    from transformers import AutoModelForCausalLM  # noqa: PLC0415  (seconds)

    _, paths, _ = export(
        {**LISTED, "hook_name": hook_name}, "--export=lm-eval", architecture=architecture
    )

    (found,) = {row["hookpoint"] for row in csv.DictReader(paths[0].open(encoding="utf-8"))}
    assert found == module
    plain = AutoModelForCausalLM.from_pretrained(model_folder(architecture))
    assert module in dict(plain.base_model.named_modules())  # where lm-eval looks for it


def test_both_are_written_on_request_and_change_nothing_else(export: Run, tmp_path: Path) -> None:
    _, plain, _ = export(LISTED)
    _, paths, _ = export(LISTED, BOTH)

    assert [path.name.partition(".")[2] for path in paths[:2]] == [
        *("neuronpedia.json", "lm_eval.csv"),
    ]
    assert len(plain) == 3
    assert plain[0].read_bytes() == paths[2].read_bytes()
    assert [read(path)["saes"] for path in (plain[-1], paths[-1])].count(read(plain[-1])["saes"])
    assert "export" not in read(paths[-1])["metadata"]["atp"]["selection"]
    found = sorted(path.name for path in (tmp_path / "out").glob("atp_features_*.json"))
    assert found == [plain[-1].name, paths[-1].name]  # where atp intervene looks


def test_without_a_selection_there_is_nothing_to_export(export: Run, tmp_path: Path) -> None:
    code, paths, _ = export(LISTED, BOTH, "--min-score=1e6")
    assert code == ExitCode.USAGE
    assert len(paths) == 3
    assert not list((tmp_path / "out").glob("atp_export_*"))


@pytest.mark.parametrize(
    ("changed", "option", "reason"),
    [
        ({"path": "elsewhere"}, "neuronpedia", "SAELens knows no page of"),
        ({"spec": "./my-sae"}, "lm-eval", "./my-sae is a folder"),
        ({"hook_name": "blocks.1.hook_mlp_out"}, "lm-eval", "steers the output of a layer"),
        ({"hook_name": "blocks.0.hook_resid_pre"}, "lm-eval", "steers the output of a layer"),
        ({"writes": ["blocks.31.hook_mlp_out"]}, "lm-eval", "steers the output of a layer"),
        ({}, "lm_eval", "must be one of neuronpedia, lm-eval"),
    ],
)
def test_what_the_other_side_cannot_hold_is_one_line(
    export: Run, tmp_path: Path, changed: dict[str, Any], option: str, reason: str
) -> None:
    code, paths, log = export({**LISTED, **changed}, f"--export={option}")
    assert code == ExitCode.USAGE
    assert not paths
    assert reason in log[-1]["message"]
    assert log[-1]["hint"]
    assert not list((tmp_path / "out").glob("atp_*"))
