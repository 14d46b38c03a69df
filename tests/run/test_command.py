"""`atp run` from file to file on a tiny GPT-2: results, faults of single pairs, stop and resume."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny
import torch
from disk import files_limited_to
from oracle import Oracle
from runs import (
    ANALYSIS_FIELDS,
    FEATURE_FIELDS,
    analyses,
    events,
    read,
    without_times,
    write,
)

from atp.cli.main import main
from atp.errors import ExitCode
from atp.model.text_encoder import TextEncoder
from atp.scoring import preflight, scorer

pytestmark = pytest.mark.usefixtures("runs_share_models")


@pytest.fixture
def options(
    model_folder: Callable[[str], Path], sae_folder: Callable[..., Path], tmp_path: Path
) -> list[str]:
    """Options that make `atp run` use the tiny GPT-2, its SAE and a folder of the test."""
    return [
        f"--model={model_folder('gpt2')}",
        f"--sae={sae_folder('standard')}",
        f"--out={tmp_path / 'out'}",
        "--device=cpu",
    ]


def wait_for_batches(child: forked.Child, count: int) -> None:
    """Wait until `count` batches of a run are done."""
    while child.log.count('"batch.done"') < count:
        if child.ended(within=0.01) is not None:
            pytest.fail("the run ended before it was to be stopped")


def test_a_run_gives_the_oracles_scores_and_the_documented_schema(
    input_file: Path,
    options: list[str],
    model_folder: Callable[[str], Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", str(input_file), *options, "--top-k=7"]) == ExitCode.OK
    out, err = capfd.readouterr()
    (path,) = out.splitlines()
    result = read(path)
    run = result["metadata"]["atp"]
    assert run["complete"] is True
    assert run["counts"] == {
        "questions": 5,
        "pairs": 15,
        "scored": 15,
        "skipped": 0,
        "error": 0,
        "pending": 0,
    }
    assert run["settings"]["top_k"] == 7
    oracle = Oracle(str(model_folder("gpt2")), tiny.make_sae("standard"), tiny.HOOK_LAYER)
    for triple, analysis in zip(tiny.triples(), analyses(result), strict=True):
        answer = oracle(*triple)
        assert answer is not None
        assert list(analysis) == ANALYSIS_FIELDS
        assert analysis["diagnostics"]["n_active"] == int((answer.activations != 0).sum())
        assert len(analysis["top_features"]) == 7
        for feature in analysis["top_features"]:
            assert list(feature) == FEATURE_FIELDS
            expected = float(answer.scores[int(feature["id"])])
            assert abs(feature["score"] - expected) <= 1e-5 * float(answer.scores.abs().max())
    names = [line["event"] for line in events(err)]
    assert names[0] == "run.start"
    assert names[-1] == "run.done"
    assert "Please comment" not in err  # no prompt in the log


def test_how_attention_is_computed_makes_another_run(
    input_file: Path, options: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    runs = []
    for attention in ("eager", "sdpa"):
        assert main(["run", str(input_file), *options, f"--attention={attention}"]) == ExitCode.OK
        runs.append(read(capfd.readouterr().out.strip())["metadata"]["atp"])
    assert [run["model"]["attention"] for run in runs] == ["eager", "sdpa"]
    assert runs[0]["fingerprint"] != runs[1]["fingerprint"]


def test_everything_else_in_the_file_stays(
    input_file: Path, options: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    main(["run", str(input_file), *options])
    result = read(capfd.readouterr().out.strip())
    del result["metadata"]["atp"]
    for question in result["results"]:
        for variation in question["variations"]:
            variation.pop("atp_analysis", None)
    assert json.dumps(result) == json.dumps(read(input_file))


def test_each_pair_has_its_own_fate(
    tmp_path: Path,
    options: list[str],
    model_folder: Callable[[str], Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Skipped and failed pairs say why, others are scored, and the exit code tells."""
    good, same, empty, none, long, unpaired, bos = tiny.questions(7)
    for question in (same, empty, none, long, unpaired, bos):
        question["question_id"] = good["question_id"]
        del question["variations"][2:]
    same["variations"][1]["response"] = same["variations"][0]["response"]
    empty["variations"][1]["response"] = ""
    none["variations"][1]["response"] = None
    long["variations"][1]["prompt"] *= 30
    del unpaired["variations"][0]
    bos["variations"][1]["prompt"] = "<bos>" + bos["variations"][1]["prompt"]
    path = write(tmp_path / "mixed.json", [good, same, empty, none, long, unpaired, bos])
    assert main(["run", str(path), *options]) == ExitCode.PAIRS_FAILED
    result = read(capfd.readouterr().out.strip())
    found = list(analyses(result))
    assert all("score" in analysis["top_features"][0] for analysis in found[:3])
    assert found[3]["skipped"] == "No differing tokens found in first 20 positions"
    assert found[4]["skipped"] == "Empty response"
    assert found[5]["error"] == "Response missing"
    assert found[5]["details"]["field"] == "results[3].variations[1].response"
    assert found[6]["error"] == "Sequence too long"
    assert found[6]["details"]["tokens"] > found[6]["details"]["context"] == tiny.N_CTX
    assert found[7]["error"] == "No base variation"
    assert result["metadata"]["atp"]["counts"]["error"] == 3
    oracle = Oracle(str(model_folder("gpt2")), tiny.make_sae("standard"), tiny.HOOK_LAYER)
    prompt = tiny.questions(7)[6]["variations"][1]["prompt"]
    answer = oracle(prompt, bos["variations"][1]["response"], bos["variations"][0]["response"])
    assert answer is not None
    assert found[8]["logit_diff"] == pytest.approx(answer.logit_diff, abs=1e-4)  # one BOS, not two


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_number_that_is_not_finite_reaches_the_result(
    tmp_path: Path,
    input_file: Path,
    options: list[str],
    capfd: pytest.CaptureFixture[str],
    value: float,
) -> None:
    sae = tiny.make_sae("standard")
    with torch.no_grad():
        sae.b_enc[5] = value
    sae.save_model(tmp_path / "sae")
    arguments = ["run", str(input_file), *options, f"--sae={tmp_path / 'sae'}"]
    arguments.remove(options[1])
    assert main(arguments) == ExitCode.PAIRS_FAILED
    text = Path(capfd.readouterr().out.strip()).read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "null" not in text.partition('"results"')[2]
    for analysis in analyses(json.loads(text)):
        assert analysis["error"] == "Not finite"
        assert analysis["details"]["where"]


def test_several_saes_give_a_file_each_equal_to_single_runs(
    tmp_path: Path,
    input_file: Path,
    options: list[str],
    sae_folder: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    model, _, _, device = options
    saes = [sae_folder("topk", layer=0), sae_folder("jumprelu", layer=3)]
    both = [f"--sae={folder}" for folder in saes]
    main(["run", str(input_file), model, device, f"--out={tmp_path / 'both'}", *both])
    together = capfd.readouterr().out.splitlines()
    assert ["layer0" in together[0], "layer3" in together[1]] == [True, True]
    for sae, path in zip(both, together, strict=True):
        main(["run", str(input_file), model, device, f"--out={tmp_path / 'single'}", sae])
        single = read(capfd.readouterr().out.strip())
        for one, other in zip(analyses(read(path)), analyses(single), strict=True):
            assert one["target_token"] == other["target_token"]
            for a, b in zip(one["top_features"], other["top_features"], strict=True):
                assert a["score"] == pytest.approx(b["score"], rel=1e-4, abs=1e-6)


def test_a_pattern_of_saes_gives_a_file_for_each_folder_in_natural_order(
    tmp_path: Path,
    input_file: Path,
    options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, layer in (("layer_10", 0), ("layer_2", 3)):
        tiny.make_sae("standard", layer=layer).save_model(tmp_path / "saes" / folder)
    arguments = ["run", str(input_file), options[0], *options[2:]]
    assert main([*arguments, "--sae=./saes/layer_*", "--sae=saes/layer_2"]) == ExitCode.OK
    paths = capfd.readouterr().out.splitlines()
    told = [read(path)["metadata"]["atp"] for path in paths]
    assert [run["sae"]["spec"] for run in told] == ["saes/layer_2", "saes/layer_10"]
    assert [run["sae"]["hook_name"].split(".")[1] for run in told] == ["3", "0"]
    assert all(run["settings"]["sae"] == ["./saes/layer_*", "saes/layer_2"] for run in told)
    assert all(run["counts"]["scored"] == 15 for run in told)

    monkeypatch.setenv("ATP_SAE", "saes/layer_2 saes/*")
    assert main(arguments) == ExitCode.OK  # the same SAEs: the same run, not computed again
    assert capfd.readouterr().out.splitlines() == paths


def test_limit_scores_the_first_pairs_and_keeps_the_rest(
    input_file: Path, options: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(input_file), *options, "--limit=4"]) == ExitCode.OK
    result = read(capfd.readouterr().out.strip())
    assert len(list(analyses(result))) == 4
    assert len(result["results"]) == 5
    assert result["metadata"]["atp"]["counts"]["pairs"] == 4


def test_a_finished_run_is_not_computed_again_unless_fresh(
    input_file: Path, options: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    main(["run", str(input_file), *options])
    first = capfd.readouterr().out.strip()
    before = Path(first).read_bytes()
    assert main(["run", str(input_file), *options]) == ExitCode.OK
    out, err = capfd.readouterr()
    assert out.strip() == first
    assert Path(first).read_bytes() == before
    assert not [line for line in events(err) if line["event"] == "batch.done"]
    main(["run", str(input_file), *options, "--fresh"])
    second = capfd.readouterr().out.strip()
    assert second != first
    assert [*analyses(read(second))] == [*analyses(read(first))]


def test_a_run_with_report_ends_with_its_page_and_lists_the_runs(
    input_file: Path,
    options: list[str],
    sae_folder: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    options = ["run", str(input_file), *options, f"--sae={sae_folder('topk', layer=0)}", "--fresh"]
    main(options)
    plain = capfd.readouterr().out.split()

    code = main([*options, "--report"])

    *results, page = capfd.readouterr().out.split()
    assert code == ExitCode.OK
    assert list(map(without_times, results)) == list(map(without_times, plain))
    name = Path(results[0]).name.replace("results", "report").replace("json", "html")
    assert Path(page).name == name
    index = (Path(page).parent / "index.html").read_text(encoding="utf-8")
    assert index.count(f'href="{name}"') == len(results) == 2  # both are on the one page
    assert all(Path(path).name in index for path in (*plain, *results))


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_goes_on_to_the_same_bytes(
    tmp_path: Path,
    options: list[str],
    capfd: pytest.CaptureFixture[str],
    number: signal.Signals,
    code: int,
) -> None:
    path = write(tmp_path / "many.json", tiny.questions(40))
    arguments = [str(path), *options, "--batch-tokens=300", "--save-interval=1"]
    as_a_user_starts_it = number is signal.SIGKILL
    with forked.started(["run", *arguments], tmp_path / "cwd", new=as_a_user_starts_it) as child:
        wait_for_batches(child, 5)
        child.send(number)
        ended = child.ended()
    assert ended is not None
    assert ended.code == code
    partial = list((tmp_path / "out").glob("*.json"))
    if number is not signal.SIGKILL:
        (file,) = partial
        assert read(file)["metadata"]["atp"]["complete"] is False
        assert 5 <= len(list(analyses(read(file)))) < 120

    assert main(["run", *arguments]) == ExitCode.OK
    out, err = capfd.readouterr()
    resumed = next(line for line in events(err) if line["event"] == "run.resume")
    assert resumed["done"] >= 5
    fresh = [*arguments, "--fresh"]
    assert main(["run", *fresh]) == ExitCode.OK
    uninterrupted = capfd.readouterr().out.strip()
    expected = without_times(uninterrupted).replace(b'"fresh": true', b'"fresh": false')
    assert without_times(out.strip()) == expected


def test_a_second_run_on_the_same_folder_is_refused(
    tmp_path: Path, options: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "many.json", tiny.questions(40))
    arguments = ["run", str(path), *options, "--batch-tokens=300"]
    with forked.started(arguments, tmp_path / "cwd") as child:
        wait_for_batches(child, 1)
        assert main(["run", str(path), *options]) == ExitCode.BUSY
    (line,) = capfd.readouterr().err.splitlines()
    assert str(tmp_path / "out") in line


def test_a_fault_in_one_pair_costs_no_other_pair_its_result(
    input_file: Path,
    options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    main(["run", str(input_file), *options])
    healthy = list(analyses(read(capfd.readouterr().out.strip())))
    proper = scorer.capture

    def fails_on_one(model: Any, batch: Any, hook_names: Any, **how: Any) -> Any:
        if batch.mask.shape[1] == worst:
            raise torch.OutOfMemoryError
        return proper(model, batch, hook_names, **how)

    worst = max(
        len(tiny.tokenizer()(analysis_prompt, add_special_tokens=False).input_ids)
        + analysis["token_position"]
        for analysis, (analysis_prompt, _, _) in zip(healthy, tiny.triples(), strict=True)
    )
    monkeypatch.setattr(scorer, "capture", fails_on_one)
    assert main(["run", str(input_file), *options, "--fresh"]) == ExitCode.PAIRS_FAILED
    out, err = capfd.readouterr()
    found = list(analyses(read(out.strip())))
    failed = [i for i, analysis in enumerate(found) if "error" in analysis]
    assert 1 <= len(failed) <= 3
    for i in failed:
        details = found[i]["details"]
        assert found[i]["error"] == "OOM"
        assert details["tokens"] == worst
        assert 0 < details["used_bytes"] <= details["peak_bytes"] <= details["total_bytes"]
        assert details["free_bytes"] > 0
    retries = [line for line in events(err) if line["event"] == "oom.retry"]
    tried = [line["pairs"] for line in retries]
    assert tried[0] == 15
    assert all(count <= 8 for count in tried[1:])
    assert min(tried) <= 3
    for i, (one, other) in enumerate(zip(found, healthy, strict=True)):
        if i not in failed:
            assert one["logit_diff"] == pytest.approx(other["logit_diff"], abs=1e-4)

    monkeypatch.undo()
    assert main(["run", str(input_file), *options]) == ExitCode.OK
    out, err = capfd.readouterr()
    assert read(out.strip())["metadata"]["atp"]["counts"]["error"] == 0


def test_a_fault_of_every_pair_ends_the_run(
    tmp_path: Path,
    options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = write(tmp_path / "many.json", tiny.questions(20))

    proper, passes = preflight.check_split_pass, []

    def lost(*arguments: Any, **how: Any) -> Any:
        passes.append(arguments)
        if len(passes) == 1:  # the first probe, when all is loaded
            return proper(*arguments, **how)
        msg = "device lost"
        raise RuntimeError(msg)

    monkeypatch.setattr(preflight, "check_split_pass", lost)
    monkeypatch.setattr(scorer, "capture", lost)
    assert main(["run", str(path), *options]) == ExitCode.UNAVAILABLE
    assert "device lost" in events(capfd.readouterr().err)[-1]["message"]
    (partial,) = (tmp_path / "out").glob("*.json")
    assert read(partial)["metadata"]["atp"]["complete"] is False


def test_a_text_that_the_tokenizer_fails_on_costs_no_other_pair_its_result(
    input_file: Path,
    options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    proper = TextEncoder.__call__
    secret = tiny.triples()[4][1]

    def fails_on_one(self: TextEncoder, text: str) -> Any:
        if text.endswith(secret):
            msg = f"cannot read {text}"
            raise ValueError(msg)
        return proper(self, text)

    monkeypatch.setattr(TextEncoder, "__call__", fails_on_one)
    monkeypatch.setattr(TextEncoder, "ahead", lambda self, texts: self)  # as after a failure
    assert main(["run", str(input_file), *options]) == ExitCode.PAIRS_FAILED
    out, err = capfd.readouterr()
    kinds = [analysis.get("error", "scored") for analysis in analyses(read(out.strip()))]
    assert kinds == ["scored"] * 4 + ["Tokenizer failed"] + ["scored"] * 10
    assert secret.strip() not in err


def test_an_sae_for_another_model_is_refused(
    input_file: Path,
    options: list[str],
    sae_folder: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    other = f"--sae={sae_folder('standard', model_name='gemma-2-2b')}"
    arguments = ["run", str(input_file), options[0], *options[2:], other]
    assert main(arguments) == ExitCode.USAGE
    assert "gemma-2-2b" in events(capfd.readouterr().err)[-1]["message"]
    assert main([*arguments, "--allow-other-model"]) == ExitCode.OK


def test_a_hook_point_that_the_model_lacks_is_refused(
    input_file: Path,
    options: list[str],
    sae_folder: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    deep = f"--sae={sae_folder('standard', layer=9)}"
    assert main(["run", str(input_file), options[0], *options[2:], deep]) == ExitCode.USAGE
    last = events(capfd.readouterr().err)[-1]
    assert "blocks.9.hook_resid_post" in last["message"]
    assert "blocks." in last["hint"]


def test_what_was_computed_survives_a_full_disk(
    tmp_path: Path, options: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "many.json", tiny.questions(10))
    arguments = ["run", str(path), *options, "--batch-tokens=700", "--save-interval=1"]
    with files_limited_to(60_000):
        assert main(arguments) == ExitCode.SAVE_FAILED
    message = events(capfd.readouterr().err)[-1]["message"]
    assert str(tmp_path / "out") in message
    assert main(arguments) == ExitCode.OK
    out, err = capfd.readouterr()
    resumed = next(line for line in events(err) if line["event"] == "run.resume")
    assert resumed["done"] >= 1
    assert read(out.strip())["metadata"]["atp"]["counts"]["scored"] == 30
