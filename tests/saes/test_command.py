"""`atp saes` lists what SAELens has for a model: offline, at once, without torch and SAELens."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

from atp.cli.main import main
from atp.config.settings import Settings
from atp.errors import ExitCode
from atp.model.dictionaries.names import published_at
from atp.model.dictionaries.picking import sae_specs

Capture = pytest.CaptureFixture[str]
GEMMA = "google/gemma-3-12b-it"
SPEC = "gemma-scope-2-12b-it-res:layer_31_width_16k_l0_medium"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def shown(capsys: Capture, *arguments: str) -> str:
    """Return what the command prints."""
    assert main(["saes", *arguments]) == ExitCode.OK
    written = capsys.readouterr()
    assert written.err == ""
    return written.out


def listed(capsys: Capture, model: str) -> dict[str, dict[str, Any]]:
    """Return the dictionaries of a model in its JSON object, by their name for --sae."""
    report = json.loads(shown(capsys, model, "--json"))
    assert report["count"] == len(report["dictionaries"])
    return {each["spec"]: each for each in report["dictionaries"]}


@pytest.mark.parametrize("model", ["google/gemma-2-9b-it", "gemma-2-9b-it"])
def test_a_model_goes_by_its_hub_name_or_without_its_owner(capsys: Capture, model: str) -> None:
    specs = listed(capsys, model).keys()

    assert len(specs) == 36
    assert {spec.partition(":")[0] for spec in specs} == {
        "gemma-scope-9b-it-res-canonical",
        "gemma-scope-9b-it-res",  # of which SAELens' list says another model
    }


def test_old_names_are_known(capsys: Capture) -> None:
    assert listed(capsys, "gpt2-small") == listed(capsys, "gpt2")


def test_json_has_everything_of_each(capsys: Capture) -> None:
    assert listed(capsys, GEMMA)[SPEC] == {
        "spec": SPEC,
        "release": "gemma-scope-2-12b-it-res",
        "sae_id": "layer_31_width_16k_l0_medium",
        "site": "resid",
        "layer": 31,
        "hook_name": "blocks.31.hook_resid_post",
        "architecture": "jumprelu",
        "d_in": 3840,
        "d_sae": 16384,
        "l0": 60,
        "l0_size": "medium",
        "bytes": 4 * (2 * 3840 * 16384 + 3840 + 2 * 16384),
        "repository": "google/gemma-scope-2-12b-it",
        "path": "resid_post/layer_31_width_16k_l0_medium",
        "here": False,
        "neuronpedia": None,
        "scored": True,
        "reason": None,
    }
    canonical = listed(capsys, "gemma-2-9b-it")[
        "gemma-scope-9b-it-res-canonical:layer_31/width_16k/canonical"
    ]
    page = "https://www.neuronpedia.org/gemma-2-9b-it/31-gemmascope-res-16k"
    assert (canonical["neuronpedia"], canonical["l0"]) == (page, 76)


def test_what_is_not_scored_says_why(capsys: Capture) -> None:
    refused = {
        spec: each["reason"] for spec, each in listed(capsys, "gpt2").items() if each["reason"]
    }
    assert refused.keys() == {"gpt2-small-res_scefr-ajt:blocks.10.hook_resid_pre"}

    text = " ".join(shown(capsys, "meta-llama/Llama-3.1-8B").split())
    assert "atp scores 192;" in text
    assert "temporal-sae-llama-3.1-8b (2): layers 15, 26;" in text
    assert "not scored, a temporal SAE, which reads the whole sequence" in text


def test_what_is_in_the_hub_cache_is_told(capsys: Capture, cache: Path) -> None:
    published = published_at(SPEC)
    assert published is not None
    repository = cache / f"models--{published.repository.replace('/', '--')}"
    folder = repository / "snapshots" / "c0" / published.path
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c0")
    assert not listed(capsys, GEMMA)[SPEC]["here"]  # a fetch was cut off

    (folder / "params.safetensors").touch()

    assert [spec for spec, each in listed(capsys, GEMMA).items() if each["here"]] == [SPEC]
    text = " ".join(shown(capsys, GEMMA).split())
    assert "1 in the hub cache" in text
    assert "; 1 here" in text


def test_a_thousand_dictionaries_fit_on_a_screen(capsys: Capture) -> None:
    lines = shown(capsys, GEMMA).splitlines()

    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    text = " ".join(" ".join(lines).split())
    assert "google/gemma-3-12b-it: 1,156 dictionaries" in text
    assert (
        "gemma-scope-2-12b-it-res (52): layers 12, 24, 31, 41; 16k, 65k, 262k, 1m features; "
        "L0 17 to 150 (small, medium, big); 480 MiB to 30 GiB"
    ) in text
    assert "gemma-scope-2-12b-it-res-all (192): layers 0-47; 16k, 262k features;" in text


def test_a_release_has_one_place_even_if_a_run_prefers_some_of_it(capsys: Capture) -> None:
    text = shown(capsys, "deepseek-ai/DeepSeek-R1-Distill-Llama-8B")

    assert "llama_scope_r1_distill (96): layers 0-31; 32k features;" in text


def test_the_text_says_what_a_run_takes_and_how_to_name_others(
    capsys: Capture, tmp_path: Path
) -> None:
    text = " ".join(shown(capsys, GEMMA).split())

    assert f"resid: 244, by default {SPEC}" in text
    assert sae_specs(Settings(tmp_path, tmp_path, model=GEMMA)) == (SPEC,)
    assert f"--sae={SPEC}" in text
    assert "--sae='gemma-scope-2-12b-it-res:layer_*_width_16k_l0_medium'" in text


def test_without_a_model_each_has_a_line_with_counts(capsys: Capture) -> None:
    report = json.loads(shown(capsys, "--json"))
    counts = {each["model"]: each["count"] for each in report["models"]}
    directory = get_pretrained_saes_directory()
    assert sum(counts.values()) == sum(len(each.saes_map) for each in directory.values())
    assert all(sum(each["sites"].values()) == each["count"] for each in report["models"])

    lines = shown(capsys).splitlines()
    assert len(lines) <= len(counts) + 5
    (gemma,) = [line for line in lines if line.startswith(GEMMA)]
    assert gemma.split() == [GEMMA, "1156", "244", "228", "228", "456", "-"]
    assert "13,857 dictionaries of 38 models; atp scores 13,853" in " ".join(lines)


@pytest.mark.parametrize(
    ("model", "message", "hint"),
    [
        ("google/gema-3-12b-it", "lists no dictionary for the model 'google/gema-3", f"{GEMMA}"),
        ("owner/other", "lists no dictionary", "atp saes lists the models"),
        ("./none", "does not exist", "Hugging Face folder"),
    ],
)
def test_a_misspelt_model_is_one_line_with_near_ones(
    capsys: Capture, model: str, message: str, hint: str
) -> None:
    assert main(["saes", model]) == ExitCode.USAGE

    written = capsys.readouterr()
    assert written.out == ""
    (line,) = written.err.splitlines()
    assert message in json.loads(line)["message"]
    assert hint in json.loads(line)["hint"]


@pytest.mark.parametrize("arguments", [[], ["google/gemma-2-2b"], ["gpt2", "--json"]])
def test_it_answers_in_under_a_second_of_processor_time_without_heavy_imports(
    arguments: list[str],
) -> None:
    code = (
        "import sys; from atp.cli.main import main; main(['saes', *sys.argv[1:]]); "
        "print(*sys.modules, file=sys.stderr)"
    )
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        if seconds[-1] < 1:
            break
    loaded = {name.partition(".")[0] for name in done.stderr.split()}

    assert min(seconds) < 1
    assert "atp" in loaded
    assert not loaded & {"torch", "transformers", "transformer_lens", "sae_lens", "numpy"}
