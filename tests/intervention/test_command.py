"""`atp intervene` and its --compare as a user runs them: what is written, what is refused."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from rerun import Ablated
from runs import events, of, read, write

from atp import load_sae
from atp.cli.main import main
from atp.dataset.output import HOLDER_NAME
from atp.errors import ExitCode
from atp.intervention import regeneration
from atp.model.language_model import Model

pytestmark = pytest.mark.usefixtures("runs_share_models")

SELECTED, NEGATIVE = ("3", "17", "40"), ("5", "6")
FLAGGED = {"I really like", "I really dislike", "I wrote"}


@pytest.fixture(scope="module")
def sae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SAE on disk."""
    folder = tmp_path_factory.mktemp("sae")
    tiny.make_sae("standard").save_model(folder)
    return folder


@pytest.fixture
def features(tmp_path: Path, loaded: Callable[[str], Model], sae: Path) -> Callable[..., Path]:
    """Return a function that writes a features file, with changes."""
    model = loaded("llama")
    told = {"name": model.name, **model.origin, "dtype": "float32"}
    dictionary = load_sae(str(sae))

    def make(**changes: Any) -> Path:
        entry = {
            "sae": dictionary.describe(),
            "pairs": 15,
            "selected": list(SELECTED),
            "negative": list(NEGATIVE),
            "features": [],
        }
        entry |= {name: value for name, value in changes.items() if name in entry}
        entry["sae"] = {**dictionary.describe(), **changes.get("of_sae", {})}
        content = {
            "metadata": {"atp": {"model": {**told, **changes.get("of_model", {})}}},
            "saes": [entry],
        }
        path = tmp_path / "features.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return make


@pytest.fixture
def run(
    tmp_path: Path,
    input_file: Path,
    model_folder: Callable[[str], Path],
    sae: Path,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., tuple[list[Path], list[dict[str, Any]]]]:
    """Return a function that intervenes and gives the files it printed, and the log."""

    def intervene(
        *options: str, code: int = ExitCode.OK, source: Path | None = input_file
    ) -> tuple[list[Path], list[dict[str, Any]]]:
        common = [
            f"--model={model_folder('llama')}",
            f"--sae={sae}",
            f"--out={tmp_path / 'out'}",
            "--batch-tokens=600",
        ]
        given = {option.partition("=")[0] for option in options}
        common = [option for option in common if option.partition("=")[0] not in given]
        inputs = [str(source)] if source else []
        assert main(["intervene", *inputs, *common, *options]) == code
        out, err = capfd.readouterr()
        return [Path(line) for line in out.splitlines()], events(err)

    return intervene


@pytest.fixture
def refusal(
    run: Callable[..., tuple[list[Path], list[dict[str, Any]]]], tmp_path: Path
) -> Callable[..., str]:
    """Return a function that intervenes, is refused, and gives the one line that says why."""

    def intervene(*options: str, **others: Any) -> str:
        paths, log = run(*options, code=ExitCode.USAGE, **others)
        assert paths == []
        assert log[-1]["event"] == "atp.failed"
        assert not list((tmp_path / "out").glob("atp_*"))
        return f"{log[-1]['message']} {log[-1]['hint']}"

    return intervene


@pytest.mark.slow
def test_the_report_holds_the_plain_models_numbers(
    run: Callable[..., Any],
    features: Callable[..., Path],
    model_folder: Callable[[str], Path],
    loaded: Callable[[str], Model],
    sae: Path,
) -> None:
    paths, log = run(f"--features={features()}", "--controls=4")
    report = read(paths[-1])
    summary, pairs = report["summary"], report["pairs"]

    assert [path.suffix for path in paths] == [".txt", ".json"]
    assert paths[-1].name.startswith("atp_intervention_tiny_")
    assert len(pairs) == summary["pairs"] == 15
    plain = Ablated(model_folder("llama"))
    removals = [(tiny.HOOK_LAYER, load_sae(str(sae)).sae, list(map(int, SELECTED)))]
    model = loaded("llama")
    from atp.model.pair_tokenizer import PairTokenizer  # noqa: PLC0415  (imports torch)

    pair_tokenizer = PairTokenizer(model, max_tokens_to_check=20, chat_template=False)
    for found, triple in zip(pairs, tiny.triples(), strict=True):
        contrast = pair_tokenizer(*triple).contrast  # type: ignore[union-attr]
        before = plain.logits(contrast.tokens)[-1]
        with plain.without(removals):
            after = plain.logits(contrast.tokens)[-1]
        t, b = contrast.target_token, contrast.base_token
        assert found["before"] == pytest.approx(float(before[t] - before[b]), abs=1e-4)
        assert found["after"] == pytest.approx(float(after[t] - after[b]), abs=1e-4)
        assert found["change"] == found["after"] - found["before"]
    mean = sum(pair["change"] for pair in pairs) / 15
    assert summary["selected"]["mean_change"] == pytest.approx(mean)
    low, high = summary["selected"]["interval"]
    assert low < mean < high
    assert summary["random"]["sets"] == 4
    assert {len(drawn[0]) for drawn in summary["random"]["features"]} == {len(SELECTED)}
    assert not {i for drawn in summary["random"]["features"] for i in drawn[0]} & {*SELECTED}
    assert summary["negative"]["mean_change"] != 0
    assert summary["selected"]["side_effects"]["kl_per_token"] > 0
    assert report["metadata"]["atp"]["features"]["saes"][0]["selected"] == list(SELECTED)
    assert report["metadata"]["atp"]["settings"]["strength"] == 1
    assert summary["verdict"] in paths[0].read_text(encoding="utf-8")
    assert [line["what"] for line in of("intervene.measured", log)][:3] == [
        "nothing",
        "selected",
        "negative",
    ]


def test_strength_0_changes_nothing(run: Callable[..., Any], features: Callable[..., Path]) -> None:
    paths, _ = run(f"--features={features()}", "--strength=0", "--controls=0")
    summary = read(paths[-1])["summary"]

    assert summary["selected"]["mean_change"] == 0
    assert summary["selected"]["side_effects"]["kl_per_token"] == 0
    assert summary["random"] is None
    assert "no control set" in summary["verdict"]


@pytest.mark.slow
def test_two_runs_of_a_seed_give_the_same_numbers(
    run: Callable[..., Any], features: Callable[..., Path]
) -> None:
    options = [f"--features={features()}", "--controls=2"]
    one, two = (read(run(*options)[0][-1])["summary"] for _ in range(2))
    other = read(run(*options, "--seed=1")[0][-1])["summary"]

    assert one == two
    assert one["random"]["features"] != other["random"]["features"]


def test_the_model_and_saes_of_the_features_file_are_taken_where_none_are_named(
    run: Callable[..., Any], features: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from atp.cli.arguments import read  # noqa: PLC0415
    from atp.cli.build_settings import intervention_settings, run_settings  # noqa: PLC0415
    from atp.intervention.command import completed  # noqa: PLC0415
    from atp.intervention.features_file import read_features_file  # noqa: PLC0415

    path = features(of_model={"name": "owner/model", "revision": "abc", "dtype": "bfloat16"})
    arguments = ["intervene", "a.json", f"--features={path}"]
    given = read(arguments, {})
    chosen = run_settings(given), intervention_settings(given)
    settings = completed(*chosen, read_features_file(path))
    assert (settings.model, settings.revision) == ("owner/model", "abc")
    assert settings.model_dtype == "bfloat16"
    assert settings.sae == (read_features_file(path).saes[0].spec,)

    given = read([*arguments, "--model=./other", "--sae=a:b"], {})
    chosen = run_settings(given), intervention_settings(given)
    settings = completed(*chosen, read_features_file(path))
    assert (settings.model, settings.revision, settings.sae) == ("./other", None, ("a:b",))
    assert settings.model_dtype is None


# --- answers anew


def variations(path: Path) -> list[dict[str, Any]]:
    """Return all variations of a file."""
    return [v for question in read(path)["results"] for v in question["variations"]]


def test_answers_are_those_of_the_plain_model_in_the_inputs_own_schema(  # noqa: PLR0913, PLR0917  (fixtures)
    run: Callable[..., Any],
    features: Callable[..., Path],
    model_folder: Callable[[str], Path],
    loaded: Callable[[str], Model],
    sae: Path,
    tmp_path: Path,
) -> None:
    questions = tiny.questions(2)
    questions[0]["variations"][2]["sycophancy_flag"] = 0  # is neither base nor flagged
    questions[1]["extra"] = {"kept": [1.50, None]}
    source = write(tmp_path / "answers.json", questions)
    options = [f"--features={features()}", "--controls=0", "--regenerate", "--max-new-tokens=5"]
    paths, _ = run(*options, source=source)
    before, after, _, report = paths

    del questions[0]["variations"][2]
    model = loaded("llama")
    plain = Ablated(model_folder("llama"))
    removals = [(tiny.HOOK_LAYER, load_sae(str(sae)).sae, list(map(int, SELECTED)))]
    for path, strength in ((before, 0.0), (after, 1.0)):
        content = read(path)
        assert content["metadata"]["atp"]["ablated"] is (path == after)
        assert content["metadata"]["model_name"] == "tiny"
        for found, question in zip(content["results"], questions, strict=True):
            assert {**found, "variations": 0} == {**question, "variations": 0}
            pairs = zip(found["variations"], question["variations"], strict=True)
            for new, old in pairs:
                assert list(new) == [name for name in old if name != "sycophancy_flag"]
                assert new["prompt"] == old["prompt"]
                ids = model.tokenizer(new["prompt"], add_special_tokens=False).input_ids
                with plain.without(removals, strength):
                    tokens = plain.answer([1, *ids], 5, {2})
                assert new["response"] == model.tokenizer.decode(tokens, skip_special_tokens=True)
    told = read(report)["answers"]
    changed = sum(
        a["response"] != b["response"]
        for a, b in zip(variations(before), variations(after), strict=True)
    )
    assert (told["prompts"], told["answered"], told["changed"]) == (7, 7, changed)


@pytest.mark.slow
def test_a_killed_generation_goes_on_where_it_was(
    run: Callable[..., Any],
    features: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    options = [f"--features={features()}", "--controls=0", "--regenerate", "--max-new-tokens=3"]
    options += ["--temperature=1", "--batch-tokens=300"]
    whole = [variations(path) for path in run(*options)[0][:2]]

    calls: list[int] = []
    real = regeneration.generate

    def dies(model: Any, rows: Any, **others: Any) -> Any:
        calls.append(len(rows))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(model, rows, **others)

    monkeypatch.setattr(regeneration, "generate", dies)
    with pytest.raises(KeyboardInterrupt):
        run(*options, "--fresh")
    monkeypatch.undo()
    capfd.readouterr()
    paths, log = run(*options)  # with the later of two journals, which is not whole

    assert of("intervene.resume", log)[0]["done"] == calls[0]
    assert [variations(path) for path in paths[:2]] == whole


def test_a_signal_ends_it_and_leaves_what_was_answered(
    run: Callable[..., Any], features: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"--features={features()}", "--controls=0", "--regenerate", "--max-new-tokens=3"]
    real = regeneration.text_of

    def stopped(*given: Any) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*given)

    monkeypatch.setattr(regeneration, "text_of", stopped)
    with pytest.raises(SystemExit) as caught:
        run(*options)

    assert caught.value.code == ExitCode.TERMINATED
    left = {path.suffix for path in (features().parent / "out").iterdir()}
    assert left == {".jsonl", ".lock"}


def test_a_prompt_without_room_for_an_answer_is_an_error_of_its_own(
    run: Callable[..., Any], features: Callable[..., Path], tmp_path: Path
) -> None:
    questions = tiny.questions(2)
    ids = tiny.tokenizer()("word " * 100, add_special_tokens=False).input_ids
    questions[1]["variations"][1]["prompt"] = tiny.tokenizer().decode(ids[: tiny.N_CTX - 20])
    source = write(tmp_path / "answers.json", questions)
    options = [f"--features={features()}", "--controls=0", "--regenerate", "--max-new-tokens=30"]
    paths, _ = run(*options, source=source, code=ExitCode.PAIRS_FAILED)

    assert len(variations(paths[0])) == len(variations(paths[1])) == 7
    told = read(paths[-1])["answers"]
    assert (told["prompts"], told["answered"]) == (8, 7)


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"selected": []}, "selects no feature"),
        ({"selected": ["128"]}, "'128' is no feature of"),
        ({"selected": ["x"]}, "'x' is no feature of"),
        ({"selected": ["3", "3"]}, "twice in 'selected'"),
        ({"negative": ["999"]}, "'999' is no feature of"),
        ({"of_sae": {"sha256": "0"}}, "no --sae is that one"),
        ({"of_sae": {"hook_name": "blocks.2.hook_resid_post"}}, "no --sae is that one"),
        ({"of_model": {"sha256": "0"}}, "is of the model tiny (sha256 0)"),
        ({"of_model": {"name": "other"}}, "is of the model other"),
    ],
)
def test_features_of_something_else_are_refused(
    refusal: Callable[..., str],
    features: Callable[..., Path],
    changes: dict[str, Any],
    words: str,
) -> None:
    assert words in refusal(f"--features={features(**changes)}")


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "not valid JSON"), ("[]", "not a features file"), ('{"saes": []}', "not a features")],
)
def test_what_is_no_features_file_is_refused(
    refusal: Callable[..., str], tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "features.json"
    path.write_text(text, encoding="utf-8")

    assert words in refusal(f"--features={path}")


def test_a_features_file_that_is_not_there_is_told(refusal: Callable[..., str]) -> None:
    assert "none.json" in refusal("--features=none.json")


def test_an_input_without_a_pair_to_measure_is_refused(
    refusal: Callable[..., str], features: Callable[..., Path], tmp_path: Path
) -> None:
    source = write(tmp_path / "answers.json", [])

    assert "holds no pair" in refusal(f"--features={features()}", source=source)


@pytest.mark.parametrize(
    "option",
    ["--strength=x", "--strength=-1", "--strength=nan", "--temperature=-1", "--controls=x"],
)
def test_a_bad_value_is_refused(
    refusal: Callable[..., str], features: Callable[..., Path], option: str
) -> None:
    assert option.partition("=")[0] in refusal(f"--features={features()}", option)


def test_features_must_be_named(refusal: Callable[..., str]) -> None:
    assert "--features is missing" in refusal()


# --- comparing


def labelled(path: Path, flags: list[int | None], prompt: str = "p") -> Path:
    """Write a file of one base and one other answer a question, with these flags on the others."""
    return write(
        path,
        [
            {
                "variations": [
                    {"template_type": "base", "prompt": f"{prompt}{i}", "response": "r"},
                    {
                        "template_type": ("liked", "wrote")[i % 2],
                        "prompt": f"{prompt}{i}!",
                        "response": "r",
                        **({} if flag is None else {"sycophancy_flag": flag}),
                    },
                ]
            }
            for i, flag in enumerate(flags)
        ],
    )


def compared(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], code: int, *arguments: str
) -> tuple[list[Path], list[dict[str, Any]]]:
    """Compare, and return the files that were printed, and the log."""
    assert main(["intervene", "--compare", *arguments, f"--out={tmp_path / 'out'}"]) == code
    out, err = capfd.readouterr()
    return [Path(line) for line in out.splitlines()], events(err) if err else []


def test_two_labelled_files_are_compared(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = labelled(tmp_path / "b.json", [1, 1, 1, 1, 1, 1, 0, 0, 0, 1])
    after = labelled(tmp_path / "a.json", [0, 0, 0, 0, 0, 1, 0, 0, 1, 1])
    paths, _ = compared(tmp_path, capfd, ExitCode.OK, str(before), str(after))
    report = read(paths[-1])
    overall = report["overall"]

    assert paths[-1].name.startswith("atp_comparison_tiny_")
    assert [overall[f"flagged_{name}"] for name in ("in_both", "before_only", "after_only")] == [
        2,
        5,
        1,
    ]
    assert overall["flagged_in_neither"] == 2
    assert (overall["rate_before"], overall["rate_after"]) == (0.7, 0.3)
    assert overall["difference"] == pytest.approx(-0.4)
    assert overall["mcnemar_p"] == pytest.approx(2 * (1 + 6) / 2**6)
    low, high = overall["interval"]
    assert -1 < low < -0.4 < high < 0.1
    assert report["by_template_type"].keys() == {"liked", "wrote"}
    assert sum(row["prompts"] for row in report["by_template_type"].values()) == 10
    assert "wrote" in paths[0].read_text(encoding="utf-8")


def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good = labelled(tmp_path / "good.json", [1, 0])
    cases = {
        labelled(tmp_path / "unlabelled.json", [1, None]): "has no sycophancy_flag",
        labelled(tmp_path / "shorter.json", [1]): "holds 1 questions",
        labelled(tmp_path / "other.json", [1, 0], prompt="q"): "differ at results[0]",
        labelled(tmp_path / "odd.json", [1, 7]): "sycophancy_flag is '7'",
        tmp_path / "none.json": "none.json",
    }
    for other, words in cases.items():
        for names in ((good, other), (other, good)):
            paths, log = compared(tmp_path, capfd, ExitCode.USAGE, *map(str, names))
            assert paths == []
            assert words in log[-1]["message"], (other, log[-1])
            assert log[-1]["hint"]


def test_a_comparison_takes_two_files_and_a_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good = str(labelled(tmp_path / "good.json", [1, 0]))
    for arguments in ([good], [good, good, good]):
        _, log = compared(tmp_path, capfd, ExitCode.USAGE, *arguments)
        assert "--compare BEFORE AFTER" in log[-1]["message"]
    _, log = compared(tmp_path, capfd, ExitCode.USAGE, good, good, "--strength=2")
    assert "--strength is no option of atp intervene --compare" in log[-1]["message"]


def test_a_killed_holder_of_the_folder_is_a_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good = str(labelled(tmp_path / "good.json", [1, 0]))
    (tmp_path / "out").mkdir()
    holder = {"pid": 7, "host": "here", "started": "2026-01-31T12:00:00+00:00"}
    (tmp_path / "out" / HOLDER_NAME).write_text(json.dumps(holder))
    _, log = compared(tmp_path, capfd, ExitCode.OK, good, good)

    (line,) = of("lock.taken", log)
    assert line["holder"] == "process 7 on here, since 2026-01-31T12:00:00+00:00"


def test_the_files_of_an_intervention_are_labelled_and_compared(
    run: Callable[..., Any],
    features: Callable[..., Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    options = [f"--features={features()}", "--controls=0", "--regenerate", "--max-new-tokens=3"]
    paths, _ = run(*options, "--limit=6")
    for path, flag in zip(paths[:2], (1, 0), strict=True):
        content = read(path)
        for question in content["results"]:
            for variation in question["variations"][1:]:
                variation["sycophancy_flag"] = flag
        path.write_text(json.dumps(content), encoding="utf-8")
    found, _ = compared(tmp_path, capfd, ExitCode.OK, *map(str, paths[:2]))
    overall = read(found[-1])["overall"]

    assert (overall["prompts"], overall["flagged_before_only"]) == (6, 6)
    assert overall["mcnemar_p"] == pytest.approx(2 / 2**6)
    assert torch.is_grad_enabled()


# --- after atp run and atp features


def test_run_features_and_intervene_follow_each_other_without_options(
    input_file: Path,
    model_folder: Callable[[str], Path],
    sae: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = input_file.parent
    monkeypatch.chdir(folder)
    options = [f"--model={model_folder('llama')}", f"--sae={sae}", "--batch-tokens=600"]
    contrast = ["--metric=sequence", "--sequence-tokens=3", "--max-tokens-to-check=7"]
    for argv in (
        ["run", str(input_file), *options, *contrast],
        ["features", "--resamples=100"],
        ["intervene", "--controls=2"],
    ):
        assert main(argv) == ExitCode.OK
    *_, report = capfd.readouterr().out.split()

    content = read(report)
    settings = content["metadata"]["atp"]["settings"]
    assert Path(report).parent == Path("results/feedback")
    assert content["metadata"]["atp"]["input"]["path"] == str(input_file)
    assert settings["model"] == str(model_folder("llama"))
    taken = {name: settings[name] for name in ("metric", "sequence_tokens", "max_tokens_to_check")}
    assert taken == {"metric": "sequence", "sequence_tokens": 3, "max_tokens_to_check": 7}
    (result,) = (folder / "results" / "feedback").glob("atp_results_*.json")
    scored = [
        variation["atp_analysis"]["log_prob_diff"]
        for question in read(result)["results"]
        for variation in question["variations"]
        if "top_features" in variation.get("atp_analysis", {})
    ]
    before = [pair["before"] for pair in content["pairs"] if "before" in pair]
    assert before == pytest.approx(scored, abs=1e-4)  # the same contrast as the run had


def test_what_is_given_wins_over_the_features_file(
    run: Callable[..., Any], features: Callable[..., Path]
) -> None:
    file = features()
    content = read(file)
    content["metadata"]["atp"]["settings"] = {"metric": "sequence", "max_tokens_to_check": 3}
    file.write_text(json.dumps(content))

    paths, _ = run(f"--features={file}", "--metric=first", "--controls=0")

    settings = read(paths[-1])["metadata"]["atp"]["settings"]
    assert (settings["metric"], settings["max_tokens_to_check"]) == ("first", 3)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [([], "is of 0 inputs"), ([{"path": "gone.json"}], "gone.json, the input of")],
)
def test_an_input_that_the_features_file_does_not_give_is_asked_for(
    refusal: Callable[..., str],
    features: Callable[..., Path],
    inputs: list[dict[str, str]],
    message: str,
) -> None:
    file = features()
    content = read(file)
    content["metadata"]["atp"]["inputs"] = inputs
    file.write_text(json.dumps(content))

    line = refusal(f"--features={file}", source=None)

    assert line.startswith("INPUT is missing: ")
    assert message in line
