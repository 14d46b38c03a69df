"""`atp run` with every way to score, from file to file: stop and resume, bad base prompts, check.

That the numbers are those of the plain model is in test_methods.py; faults of single pairs are in
test_worker.py, shards in test_shard.py.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny
import torch
from runs import analyses, events, of, read, without_times, write
from ways import WAYS, every_way

from atp.attribution import prompts
from atp.check import run_outline
from atp.cli.main import main
from atp.errors import ExitCode
from atp.model.dictionaries import placement
from atp.run import pipeline
from atp.scoring import base_prompts, scorer

pytestmark = pytest.mark.usefixtures("runs_share_models")

SMALL = 8
"""Pairs of a window, and prompts of a mean's, in these tests."""
SEQUENCE = ["--metric=sequence"]


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (pipeline, run_outline, base_prompts):
        monkeypatch.setattr(module, "WINDOW_PAIRS", SMALL)


@pytest.fixture
def options(model_folder: Callable[[str], Path], sae_folder: Callable[..., Path]) -> list[str]:
    """Options of a run on the tiny Llama, with SAEs on two layers."""
    return [
        f"--model={model_folder('llama')}",
        f"--sae={sae_folder('standard')}",
        f"--sae={sae_folder('topk', layer=2)}",
        "--device=cpu",
        "--batch-tokens=400",
    ]


@pytest.fixture
def run(
    tmp_path: Path, options: list[str], capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """Return a function that runs a file and gives the results and the log."""

    def get(
        path: Path, *more: str, code: int = ExitCode.OK, out: str = "out"
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        given = [each for each in options if not (each.startswith("--sae") and _names_sae(more))]
        arguments = ["run", str(path), *given, f"--out={tmp_path / out}", *more]
        assert main(arguments) == code
        text, err = capfd.readouterr()
        return [read(line) for line in text.splitlines()], events(err)

    return get


def _names_sae(more: tuple[str, ...]) -> bool:
    return any(each.startswith("--sae") for each in more)


def with_base_prompts(*base_prompts: Any) -> list[dict[str, Any]]:
    """Return a question for each base prompt; None leaves the field out."""
    found = tiny.questions(len(base_prompts))
    for question, prompt in zip(found, base_prompts, strict=True):
        if prompt is None:
            del question["variations"][0]["prompt"]
        else:
            question["variations"][0]["prompt"] = prompt
    return found


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_killed_run_goes_on_to_the_same_bytes(
    tmp_path: Path, options: list[str], way: str
) -> None:
    path = write(tmp_path / "many.json", tiny.questions(7))
    arguments = ["run", str(path), *options, *WAYS[way], "--save-interval=1", "--out=out"]
    proper = scorer.capture
    passes: list[int] = []

    def dies_at_the_fourth(*given: Any, **how: Any) -> Any:
        passes.append(1)
        if len(passes) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return proper(*given, **how)

    def prepare() -> None:
        scorer.capture = dies_at_the_fourth

    assert forked.run(arguments, tmp_path / "killed", prepare).code == -signal.SIGKILL
    again = forked.run(arguments, tmp_path / "killed")
    whole = forked.run(arguments, tmp_path / "whole")

    assert again.code == whole.code == ExitCode.OK, whole.err
    (resumed,) = of("run.resume", events(again.err))
    assert 0 < resumed["done"] < 21
    results = [ended.out.split() for ended in (again, whole)]
    assert len(results[0]) == len(results[1]) == 2
    for one, other in zip(*results, strict=True):
        expected = without_times(tmp_path / "whole" / other)
        assert without_times(tmp_path / "killed" / one) == expected
        assert read(tmp_path / "whole" / other)["metadata"]["atp"]["counts"]["scored"] == 21


@pytest.mark.slow
def test_each_way_to_score_is_a_run_of_its_own(
    tmp_path: Path, run: Callable[..., Any], sae_folder: Callable[..., Path]
) -> None:
    path = write(tmp_path / "few.json", tiny.questions(1))
    sae = f"--sae={sae_folder()}"
    ways = [[], *WAYS.values(), SEQUENCE, [*SEQUENCE, "--sequence-tokens=2"], ["--top-k=5"]]
    ways += [["--exact=all"], ["--method=ig"], ["--method=ig", "--ig-steps=4"], ["--baseline=mean"]]
    ways += [["--prompt-activations"]]
    found = set()
    for way in ways:
        (result,), log = run(path, sae, *way)
        found.add(result["metadata"]["atp"]["fingerprint"])
        assert not of("run.resume", log)
        assert of("batch.done", log)
    assert len(found) == len(ways)
    _, log = run(path, sae, "--ig-steps=7", "--sequence-tokens=9")  # of other ways: it is the first
    assert of("run.resume", log)
    assert not of("batch.done", log)


# --- bad base prompts

BAD = {
    "Base prompt missing or not text": None,
    "Sequence too long": "the argument " * 300,
}
READING = {
    "base": ["--baseline=base"],
    "mean": ["--baseline=mean"],
    "activations": ["--prompt-activations"],
}


@pytest.mark.parametrize("way", READING)
def test_a_bad_base_prompt_is_an_error_of_its_pairs_as_the_check_foretells(
    tmp_path: Path,
    run: Callable[..., Any],
    options: list[str],
    capfd: pytest.CaptureFixture[str],
    way: str,
) -> None:
    good = tiny.questions(1)[0]["variations"][0]["prompt"]
    path = write(
        tmp_path / "bad.json", with_base_prompts(good, None, 5, *BAD.values(), "", good + "!")
    )
    main(["check", str(path), *options, *READING[way], f"--out={tmp_path / 'out'}", "--json"])
    report = json.loads(capfd.readouterr().out)

    results, log = run(path, *READING[way], code=ExitCode.PAIRS_FAILED)

    for result in results:
        kinds = Counter(analysis.get("error", "scored") for analysis in analyses(result))
        assert kinds == {
            "scored": 9,
            "Base prompt missing or not text": 9,
            "Sequence too long": 3,
        }
        for analysis in analyses(result):
            if "error" in analysis:
                assert analysis["details"]["field"] == "base prompt"
        counts = result["metadata"]["atp"]["counts"]
        expected = {kind: counts[kind] for kind in ("scored", "skipped", "error")}
        assert {kind: report["pairs"][kind] for kind in expected} == expected
    assert sum(report["pairs"]["errors"].values()) == len(of("pair.error", log)) == 12
    assert report["input"]["problem_count"] == 12
    assert all("base prompt" in each["message"].lower() for each in report["input"]["problems"])
    assert report["exit_code"] == ExitCode.USAGE
    if way == "mean":
        (told,) = of("baseline.mean", log)
        assert (told["prompts"], told["left_out"]) == (3, 4)


def test_without_a_need_for_them_bad_base_prompts_cost_nothing(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    path = write(tmp_path / "bad.json", with_base_prompts(None, 5))
    results, _ = run(path, "--exact=all", "--top-k=2")
    assert {result["metadata"]["atp"]["counts"]["scored"] for result in results} == {6}


def test_a_mean_of_no_base_prompt_is_refused_in_one_line_by_run_and_check(
    tmp_path: Path, run: Callable[..., Any], options: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "bad.json", with_base_prompts(*BAD.values()))
    (), log = run(path, "--baseline=mean", code=ExitCode.USAGE)
    assert "holds no base prompt that can be read" in log[-1]["message"]
    assert "--baseline=zero" in log[-1]["hint"]
    code = main(["check", str(path), *options, "--baseline=mean", f"--out={tmp_path / 'out'}"])
    assert code == ExitCode.USAGE
    assert "holds no base prompt that can be read" in " ".join(capfd.readouterr().out.split())


def test_a_mean_is_not_asked_of_an_input_without_pairs(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    questions = tiny.questions(1)
    del questions[0]["variations"][1:]
    results, _ = run(write(tmp_path / "none.json", questions), "--baseline=mean")
    assert all(result["metadata"]["atp"]["complete"] for result in results)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no memory"), RuntimeError("lost")])
def test_a_mean_that_cannot_be_taken_ends_the_run_in_one_line(
    tmp_path: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = write(tmp_path / "many.json", tiny.questions(5))
    proper, tried = base_prompts.read_prompts, []

    def fails_on_the_longest(model: Any, batch: Any, names: Any) -> Any:
        tried.append(max(map(len, batch)))
        if tried[-1] > 90:
            raise error
        return proper(model, batch, names)

    monkeypatch.setattr(base_prompts, "read_prompts", fails_on_the_longest)
    (), log = run(path, "--baseline=mean", code=ExitCode.UNAVAILABLE)
    message = log[-1]["message"]
    assert f"a base prompt of {tried[-1]} tokens cannot be run" in message
    assert type(error).__name__ in message
    assert not of("atp.bug", log)


def test_a_signal_while_the_mean_is_taken_ends_the_run(tmp_path: Path, options: list[str]) -> None:
    path = write(tmp_path / "many.json", tiny.questions(7))
    arguments = ["run", str(path), *options, "--baseline=mean", "--out=out"]

    def stops(*_: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([signal.SIGUSR1], 60)  # as long as a pass over a long prompt

    def prepare() -> None:
        base_prompts.read_prompts = stops

    ended = forked.run(arguments, tmp_path / "here", prepare)
    assert ended.code == ExitCode.TERMINATED, ended.err
    assert ended.seconds < 30


# --- what a check foretells


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What passes compute: filled while a run goes on."""
    found: Counter[str] = Counter()
    proper, ahead = scorer.capture, prompts.fill_prefix

    def counting(model: Any, batch: Any, names: Any, **how: Any) -> Any:
        found["computed"] += batch.prefix_ids.numel() + batch.ids.numel()
        found["gradient"] += len(batch) * batch.tail
        found["batches"] += 1
        found["widest"] = max(found["widest"], batch.mask.numel())
        return proper(model, batch, names, **how)

    def reading(model: Any, batch: Any, cache: Any) -> Any:
        found["base_prompts"] += batch.prefix_ids.numel() + batch.ids.numel()
        return ahead(model, batch, cache)

    monkeypatch.setattr(scorer, "capture", counting)
    monkeypatch.setattr(prompts, "fill_prefix", reading)
    return found


@pytest.mark.parametrize("shard", [(), pytest.param(("--shard=1/3",), marks=pytest.mark.slow)])
@every_way
def test_a_check_counts_the_tokens_that_the_run_computes(  # noqa: PLR0913, PLR0917  (fixtures)
    tmp_path: Path,
    run: Callable[..., Any],
    options: list[str],
    capfd: pytest.CaptureFixture[str],
    computed: Counter[str],
    way: str,
    shard: tuple[str, ...],
) -> None:
    path = write(tmp_path / "many.json", tiny.questions(7))
    main(["check", str(path), *options, *WAYS[way], *shard, f"--out={tmp_path / 'out'}", "--json"])
    report = json.loads(capfd.readouterr().out)
    assert not computed

    results, _ = run(path, *WAYS[way], *shard)

    told = report["tokens"]
    names = ("computed", "gradient", "batches", "base_prompts")
    assert {name: told[name] for name in names} == {name: computed[name] for name in names}
    memory = report["estimate"]["memory"]
    per_token = memory["bytes_per_token"]
    assert memory["batch_bytes"] == pytest.approx(per_token * computed["widest"], rel=1e-3)
    assert report["pairs"]["scored"] == results[0]["metadata"]["atp"]["counts"]["scored"]


# --- texts and SAEs at the edges


def one_pair(prompt: str, flagged: str, base: str, base_prompt: str = "") -> list[dict[str, Any]]:
    """Return a question with one pair."""
    (question,) = tiny.questions(1)
    neutral, pair = question["variations"][:2]
    neutral |= {"prompt": base_prompt, "response": base}
    pair |= {"prompt": prompt, "response": flagged}
    return [{**question, "variations": [neutral, pair]}]


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@every_way
def test_the_shortest_texts_are_scored(  # noqa: PLR0913, PLR0917  (fixtures)
    tmp_path: Path,
    run: Callable[..., Any],
    model_folder: Callable[[str], Path],
    options: list[str],
    architecture: str,
    way: str,
) -> None:
    """A prompt of nothing but BOS, where there is one, and answers of a token."""
    options[0] = f"--model={model_folder(architecture)}"
    prompt = "" if architecture == "llama" else "x"
    path = write(tmp_path / "short.json", one_pair(prompt, "y", "z", prompt))
    results, _ = run(path, *WAYS[way])
    for result in results:
        (analysis,) = analyses(result)
        assert analysis["token_position"] == 1
        assert analysis["top_features"]
        if "sequence" in way:
            assert analysis["sequence_tokens"] == [1, 1]


@every_way
def test_features_that_are_all_inactive_are_no_fault(
    tmp_path: Path, run: Callable[..., Any], way: str
) -> None:
    sae = tiny.make_sae("standard")
    with torch.no_grad():
        sae.b_enc.fill_(-1e4)
    sae.save_model(tmp_path / "sae")
    path = write(tmp_path / "few.json", tiny.questions(2))
    (result,), _ = run(path, f"--sae={tmp_path / 'sae'}", *WAYS[way])
    for analysis in analyses(result):
        assert analysis["diagnostics"]["n_active"] == 0
        assert {feature["score"] for feature in analysis["top_features"]} == {0}
        if "effect" in analysis["top_features"][0]:
            assert {feature["effect"] for feature in analysis["top_features"]} == {0}
        if "exact" in analysis["diagnostics"]:
            exact = analysis["diagnostics"]["exact"]
            assert exact["features"] == exact["unchecked"] == exact["flagged"] == 0
            assert exact.get("pearson") is None
            assert "sample" not in exact
        if "prompt_activations" in analysis:
            assert analysis["prompt_activations"] == {"ids": [], "flagged": [], "base": []}


@every_way
def test_more_features_than_the_sae_has_are_all_of_them(
    tmp_path: Path, run: Callable[..., Any], sae_folder: Callable[..., Path], way: str
) -> None:
    sae = f"--sae={sae_folder('standard', d_sae=16)}"
    more = [each for each in WAYS[way] if not each.startswith("--top-k")]
    path = write(tmp_path / "few.json", tiny.questions(2))
    (result,), _ = run(path, sae, *more, "--top-k=500", "--limit=4")
    found = list(analyses(result))
    assert len(found) == 4
    for analysis in found:
        assert sorted(int(each["id"]) for each in analysis["top_features"]) == [*range(16)]


@pytest.mark.slow
def test_sequences_may_reach_the_end_of_the_context_and_not_beyond(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    """The last token of an answer is predicted, and not read."""
    flagged, base = " yes" * 400, " no" * 400
    encode = tiny.tokenizer()
    head = len(encode("So:", add_special_tokens=False).input_ids) + 1
    fits = tiny.N_CTX - head + 1
    path = write(tmp_path / "long.json", one_pair("So:", flagged, base))
    results, _ = run(path, *SEQUENCE, f"--sequence-tokens={fits}", "--exact=all", "--top-k=2")
    for result in results:
        (analysis,) = analyses(result)
        assert analysis["sequence_tokens"] == [fits, fits]
    more = [*SEQUENCE, f"--sequence-tokens={fits + 1}"]
    results, _ = run(path, *more, code=ExitCode.PAIRS_FAILED)
    for result in results:
        (analysis,) = analyses(result)
        assert analysis["error"] == "Sequence too long"
        assert analysis["details"]["tokens"] == tiny.N_CTX + 1


# --- memory


@pytest.fixture
def _no_collections() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collections")
@pytest.mark.slow
@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("way", ["exact", "ig", "sequence, ig, all"])
def test_what_a_pass_leaves_behind_is_gone_before_the_next_one(
    tmp_path: Path,
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    *,
    offload: bool,
) -> None:
    monkeypatch.setattr(placement, "Dictionaries", partial(placement.Dictionaries, offload=offload))
    proper, traces, alive = scorer.capture, [], []

    def watched(*given: Any, **how: Any) -> Any:
        alive.append(sum(trace() is not None for trace in traces))
        found = proper(*given, **how)
        left = (
            found.resume_state,
            found.resume_state.cache,
            *found.resume_state.layer_outputs.values(),
        )
        traces.extend(map(weakref.ref, left))
        return found

    monkeypatch.setattr(scorer, "capture", watched)
    run(write(tmp_path / "many.json", tiny.questions(5)), *WAYS[way])
    assert len(alive) > 3
    assert set(alive) == {0}
    assert not any(trace() is not None for trace in traces)


@pytest.mark.slow
def test_the_result_bounds_the_scores_that_were_not_checked_and_a_merge_says_the_same(
    tmp_path: Path, run: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "many.json", tiny.questions(16))
    flagged = ["--exact=flagged", "--exact-above=0.4", "--top-k=9"]
    results, _ = run(path, *flagged)
    for result in results:
        exact = [each["diagnostics"]["exact"] for each in analyses(result)]
        assert len(exact) == 48
        samples = [(each["sample"], each["error_scale"]) for each in exact if "sample" in each]
        errors = [abs(sample["effect"] - sample["score"]) for sample, _ in samples]
        by_size = [
            error / (sample["relative_size"] ** 2 * scale)
            for error, (sample, scale) in zip(errors, samples, strict=True)
        ]
        told = result["metadata"]["atp"]["exact"]
        assert told["flagged"] == sum(each["flagged"] for each in exact) > 0
        assert told["unchecked"] == {
            "features": sum(each["unchecked"] for each in exact),
            "samples": len(samples),
            "coverage": 0.95,
            "confidence": 0.9,
            # P(Binomial(48, 0.95) < 48) = 0.91: the largest of 48 is the bound. 44 are too few.
            "error": pytest.approx(max(errors)) if len(samples) >= 45 else None,
            "error_by_size": pytest.approx(max(by_size)) if len(samples) >= 45 else None,
        }
    assert results[0]["metadata"]["atp"]["exact"]["unchecked"]["samples"] == 48
    for result in results:
        told = result["metadata"]["atp"]["exact"]
        listed = [feature for each in analyses(result) for feature in each["top_features"]]
        assert all((each["ranked_by"] == "effect") == ("effect" in each) for each in listed)
        assert told["features"] == sum("effect" in each for each in listed)
    for number in range(2):
        run(path, *flagged, f"--shard={number}/2", out=f"part{number}")
    assert (
        main(
            [
                "merge",
                *(str(tmp_path / f"part{n}") for n in range(2)),
                f"--out={tmp_path / 'merged'}",
            ]
        )
        == 0
    )
    merged = [read(line) for line in capfd.readouterr().out.splitlines()]
    for one, other in zip(results, merged, strict=True):
        assert one["metadata"]["atp"]["exact"] == other["metadata"]["atp"]["exact"]
        assert one["results"] == other["results"]


@pytest.mark.parametrize(
    ("steps", "complete"), [(1, False), pytest.param(300, True, marks=pytest.mark.slow)]
)
def test_integrated_gradients_that_do_not_add_up_are_not_called_complete(
    tmp_path: Path, run: Callable[..., Any], steps: int, *, complete: bool
) -> None:
    path = write(tmp_path / "few.json", tiny.questions(1))
    results, log = run(path, "--method=ig", f"--ig-steps={steps}")
    for result in results:
        paths = [each["diagnostics"]["path"] for each in analyses(result)]
        gaps = sorted(each["completeness_gap"] for each in paths)
        assert result["metadata"]["atp"]["path"] == {"median_gap": gaps[1], "complete": complete}
        assert [each["complete"] for each in paths] == [
            each["completeness_gap"] <= 0.05 for each in paths
        ]
    warnings = of("path.incomplete", log)
    assert len(warnings) == (0 if complete else 2)
    assert all("--ig-steps" in each["hint"] for each in warnings)


@pytest.mark.parametrize("explains", [True, False])
def test_an_sae_that_explains_little_is_told_of(
    tmp_path: Path, run: Callable[..., Any], *, explains: bool
) -> None:
    sae = tiny.faithful_sae()
    if not explains:
        with torch.no_grad():
            sae.W_dec.copy_(sae.W_dec.roll(1, dims=1))
    sae.save_model(tmp_path / "sae")
    path = write(tmp_path / "few.json", tiny.questions(2))
    _, log = run(path, f"--sae={tmp_path / 'sae'}")
    shares = [each["variance_explained"] for each in of("sae.explains_little", log)]
    assert shares == ([] if explains else [pytest.approx(-1, abs=0.5)])
