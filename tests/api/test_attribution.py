"""The library gives the numbers of a run, in every form of its arguments, and all of the scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from oracle import Oracle
from runs import analyses, read
from tiers import first_tier

from atp import Result, attribute, attribute_file, exact_effects, load_sae
from atp.cli.main import main
from atp.dataset import reader
from atp.errors import ExitCode, InputError, SettingsError
from atp.model.dictionaries.placement import Dictionaries
from atp.model.language_model import Model
from atp.model.memory_model import batch_tokens

ModelFolder = Callable[[str], Path]
SaeFolder = Callable[..., Path]
Loaded = Callable[[str], Model]

BASE_PROMPTS = [
    question["variations"][0]["prompt"]
    for question in tiny.questions()
    for _ in question["variations"][1:]
]


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """Return the results of `atp run`."""
    assert main(["run", *arguments]) == ExitCode.OK
    return [read(line) for line in capfd.readouterr().out.splitlines()]


@contextmanager
def lacking_memory(model: Model, when: Callable[[torch.Tensor], bool]) -> Iterator[None]:
    """Run the model out of memory in passes over some token ids."""

    def fail(_module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if when(inputs[0]):
            raise torch.OutOfMemoryError

    embedding = model.bridge.original_model.get_input_embeddings()
    handle = embedding.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        handle.remove()


METHODS = {
    "plain": ({}, []),
    "all tokens": ({"position": "all"}, ["--position=all"]),
    "exact": ({"exact": "all", "top_k": 7}, ["--exact=all", "--top-k=7"]),
    "flagged": (
        {"exact": "flagged", "exact_above": 0.3, "top_k": 7},
        ["--exact=flagged", "--exact-above=0.3", "--top-k=7"],
    ),
    "sequence": ({"sequence_tokens": 4}, ["--metric=sequence", "--sequence-tokens=4"]),
    "chat": ({"chat_template": True}, ["--chat-template"]),
    "base": (
        {"baseline": "base", "prompt_activations": True},
        ["--baseline=base", "--prompt-activations"],
    ),
    "mean": ({"baseline": "mean"}, ["--baseline=mean"]),
    "small batches": ({"batch_tokens": 300}, ["--batch-tokens=300"]),
}


@pytest.fixture
def named(model_folder: ModelFolder, sae_folder: SaeFolder) -> tuple[Path, list[Path]]:
    """The folders of a model and of two SAEs."""
    return model_folder("llama"), [sae_folder("standard"), sae_folder("topk", layer=2)]


@pytest.mark.usefixtures("runs_share_models")
@pytest.mark.parametrize("name", first_tier(["plain", "flagged", "small batches"], METHODS))
def test_the_analyses_are_those_of_a_run(
    tmp_path: Path,
    input_file: Path,
    named: tuple[Path, list[Path]],
    capfd: pytest.CaptureFixture[str],
    name: str,
) -> None:
    """As a file, as questions, and streamed: the same JSON, two SAEs in one pass."""
    how, options = METHODS[name]
    model, saes = named
    results = run(
        capfd,
        str(input_file),
        f"--model={model}",
        *(f"--sae={sae}" for sae in saes),
        f"--out={tmp_path / 'out'}",
        *options,
    )
    expected = [list(analyses(result)) for result in results]

    by_path = attribute(model, saes, input_file, **how)
    by_question = attribute(model, saes, read(input_file)["results"], **how)
    streamed = list(attribute_file(str(model), saes, str(input_file), **how))

    for number, of_sae in enumerate(expected):
        assert by_path.saes[number].analyses == of_sae
        assert by_question.saes[number].analyses == of_sae
        assert [each.analysis for each in streamed[number::2]] == of_sae
        assert {each.sae for each in streamed[number::2]} == {by_path.names[number]}
    assert [str(each.key) for each in streamed[::2]] == [
        f"results[{question}].variations[{variation}]"
        for question in range(5)
        for variation in (1, 2, 3)
    ]


@pytest.mark.usefixtures("runs_share_models")
def test_to_dict_is_the_result_file(
    tmp_path: Path,
    input_file: Path,
    model_folder: ModelFolder,
    sae_folder: SaeFolder,
    capfd: pytest.CaptureFixture[str],
) -> None:
    model, sae = model_folder("llama"), sae_folder("standard")
    (expected,) = run(
        capfd, str(input_file), f"--model={model}", f"--sae={sae}", f"--out={tmp_path / 'out'}"
    )
    found = attribute(model, sae, input_file).to_dict()

    described, in_file = found["metadata"].pop("atp"), expected["metadata"].pop("atp")
    assert found == expected
    assert list(described) == list(in_file)
    other = {"settings", "started", "finished", "fingerprint"}
    assert {key: described[key] for key in described if key not in other} == {
        key: in_file[key] for key in in_file if key not in other
    }
    assert described["fingerprint"] == in_file["fingerprint"]  # the same numbers
    differ = {
        key for key in in_file["settings"] if described["settings"][key] != in_file["settings"][key]
    }
    assert differ <= {"out", "model"}


def test_texts_give_what_questions_give(loaded: Loaded, sae_folder: SaeFolder) -> None:
    model, sae = loaded("llama"), load_sae(sae_folder("standard"))
    by_question = attribute(model, sae, tiny.questions(), prompt_activations=True)
    by_text = attribute(model, sae, tiny.triples(), base_prompts=BASE_PROMPTS)

    assert by_text.analyses == by_question.analyses
    assert torch.equal(by_text.scores, by_question.scores)
    assert "prompt_activations" in by_text[0]


@pytest.mark.parametrize("position", ["last", "tail"])
def test_all_scores_are_there_and_are_the_oracles(
    model_folder: ModelFolder, loaded: Loaded, position: Any
) -> None:
    sae = tiny.make_sae("jumprelu")
    result = attribute(loaded("gemma2"), sae, tiny.triples(), position=position, top_k=3)
    oracle = Oracle(str(model_folder("gemma2")), sae, tiny.HOOK_LAYER)

    assert result.scores.shape == result.activations.shape == (15, tiny.D_SAE)
    for row, (triple, analysis) in enumerate(zip(tiny.triples(), result, strict=True)):
        for listed in analysis["top_features"]:
            number = int(listed["id"])
            assert float(result.scores[row, number]) == pytest.approx(listed["score"], rel=1e-6)
            assert float(result.activations[row, number]) == pytest.approx(listed["activation"])
        assert float(result.metric[row]) == pytest.approx(analysis["logit_diff"], rel=1e-6)
        answer = oracle(*triple)
        assert answer is not None
        if position == "last":
            largest = answer.scores.abs().max()
            assert (result.scores[row] - answer.scores).abs().max() <= 1e-5 * largest


def test_a_pair_whose_scores_are_refused_has_no_number(loaded: Loaded) -> None:
    sae = tiny.make_sae("standard")
    sae.W_dec.data[0, 0] = torch.nan
    result = attribute(loaded("llama"), sae, tiny.triples(2))
    assert {each["error"] for each in result} == {"Not finite"}
    assert result.metric.isnan().all()


def test_a_pair_that_fails_costs_no_other_pair(loaded: Loaded) -> None:
    """Skipped, too long, no text, and one for which the memory does not suffice."""
    model, sae = loaded("llama"), tiny.make_sae("standard")
    good = tiny.triples(3)
    whole = attribute(model, sae, good)
    bad = [("Why?", " same", " same"), ("word " * 400, " a", " b"), (None, " a", " b")]
    lacking = ("Please comment. ~ ~ ~\nComment:", " The end", " Well, it depends")
    (token,) = model.tokenizer("~", add_special_tokens=False).input_ids
    with lacking_memory(model, lambda ids: bool((ids == token).any())):
        result = attribute(model, sae, [*bad, *good, lacking])  # type: ignore[list-item]

    kinds = [next(iter(each)) for each in result[:3]]
    assert kinds == ["skipped", "error", "error"]
    assert result[1]["error"] == "Sequence too long"
    assert result[2]["error"] == "Prompt not text" or result[2]["error"] == "Prompt missing"
    assert result[-1]["error"] == "OOM"
    assert result.counts == {"scored": len(good), "skipped": 1, "error": 3}
    scored = slice(3, 3 + len(good))
    assert (result.scores[scored] - whole.scores).abs().max() <= 1e-5 * whole.scores.abs().max()
    assert result.scores[:3].isnan().all()
    assert result.scores[-1].isnan().all()
    assert result.metric.isnan().tolist() == [True] * 3 + [False] * len(good) + [True]


def test_the_budget_is_that_of_a_run_and_batches_are_halved(loaded: Loaded) -> None:
    model, sae = loaded("llama"), load_sae(tiny.make_sae("standard"))
    default = attribute(model, sae, tiny.triples())
    settings = default.to_dict()["metadata"]["atp"]["settings"]
    assert settings["batch_tokens"] == batch_tokens(model, Dictionaries([sae], model.device))

    rows: list[int] = []

    def are_many(ids: torch.Tensor) -> bool:
        rows.append(len(ids))
        return len(ids) > 3  # as many as the probe has

    with lacking_memory(model, are_many):
        halved = attribute(model, sae, tiny.triples()[:7], batch_tokens=2000)
    assert max(rows) > 3
    assert halved.counts["scored"] == 7
    gap = (halved.scores - default.scores[:7]).abs().max()
    assert gap <= 1e-5 * default.scores.abs().max()


def test_a_file_is_streamed(
    tmp_path: Path, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first results come while most of the file is unread."""
    path = tmp_path / "long.jsonl"
    lines = [json.dumps(question) for question in tiny.questions(5) * 60]  # 900 pairs
    path.write_text("\n".join(lines), encoding="utf-8")
    read_so_far = 0
    parse = reader.parse_line

    def counting(*arguments: Any) -> Any:
        nonlocal read_so_far
        read_so_far += 1
        return parse(*arguments)

    stream = attribute_file(loaded("llama"), tiny.make_sae("standard"), path)
    monkeypatch.setattr(reader, "parse_line", counting)
    first = next(stream)
    assert first.key == (0, 1)
    assert read_so_far < 100
    assert sum(1 for _ in stream) == 899
    assert read_so_far == 300


def test_a_stream_that_is_given_up_leaves_the_model_as_it_was(
    loaded: Loaded, input_file: Path
) -> None:
    model, sae = loaded("llama"), tiny.make_sae("standard")
    before = attribute(model, sae, tiny.triples(1)).scores
    stream = attribute_file(model, sae, input_file)
    next(stream)
    del stream

    assert torch.equal(attribute(model, sae, tiny.triples(1)).scores, before)


WRONG: dict[str, tuple[dict[str, Any], Any, str]] = {
    "method": ({"method": "atpp"}, SettingsError, "method must be one of atp, ig"),
    "top_k": ({"top_k": 0}, SettingsError, "top_k must be a whole number of at least 1"),
    "mean": ({"baseline": "mean"}, SettingsError, "needs base_prompts"),
    "ratio": ({"prompt_activations": True}, SettingsError, "needs base_prompts"),
    "lengths": ({"base_prompts": ["a"]}, SettingsError, "3 pairs have 1 base_prompts"),
    "no pair": ({"pairs": [("a", "b")]}, SettingsError, "is no pair"),
    "no file": ({"pairs": "nowhere.json"}, InputError, "does not exist"),
    "no question": ({"pairs": [{"x": 1}]}, InputError, "variations is missing"),
    "no sae": ({"saes": []}, SettingsError, "no SAE is given"),
    "an odd sae": ({"saes": torch.nn.Linear(2, 2)}, SettingsError, "a Linear is no SAE"),
    "an odd model": ({"model": torch.nn.Linear(2, 2)}, SettingsError, "a Linear is no model"),
    "no such sae": ({"saes": "./nowhere"}, SettingsError, "neither RELEASE:SAE_ID nor a folder"),
    "another model's sae": (
        {
            "model": "google/gemma-2-2b",
            "saes": "gemma-scope-9b-it-res-canonical:layer_9/width_16k/canonical",
        },
        SettingsError,
        "was trained on",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_argument_is_one_line(loaded: Loaded, case: str) -> None:
    changed, kind, message = WRONG[case]
    arguments = {
        "model": loaded("llama"),
        "saes": tiny.make_sae("standard"),
        "pairs": tiny.triples(1),
        **changed,
    }
    with pytest.raises(kind, match=message) as caught:
        attribute(**arguments)
    assert "\n" not in str(caught.value)


def test_effects_are_those_of_attribute(loaded: Loaded) -> None:
    model, sae = loaded("llama"), tiny.make_sae("standard")
    result = attribute(model, sae, tiny.triples(2), exact="all", top_k=tiny.D_SAE)
    found = exact_effects(model, sae, tiny.questions(2), top_k=5)

    assert isinstance(result, Result)
    for analysis, effects in zip(result, found, strict=True):
        by_score = sorted(analysis["top_features"], key=lambda each: -abs(each["score"]))[:5]
        assert list(effects["effects"]) == [each["id"] for each in by_score]
        for each in by_score:
            assert effects["effects"][each["id"]] == pytest.approx(each["effect"], abs=1e-5)


def test_effects_are_of_one_sae(loaded: Loaded) -> None:
    with pytest.raises(SettingsError, match="takes one SAE, not 2"):
        exact_effects(
            loaded("llama"),
            [tiny.make_sae("standard"), tiny.make_sae("topk")],  # type: ignore[arg-type]
            tiny.triples(1),
        )
