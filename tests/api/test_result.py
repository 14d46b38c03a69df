"""Result: its tables agree with its tensors, `select_features` takes it, a notebook shows it."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import tiny
import torch
from runs import read
from sae_lens import SAE

from atp import Result, attribute, load_sae, select_features
from atp.cli.main import main
from atp.errors import ExitCode, InputError, SettingsError
from atp.model.language_model import Model

ModelFolder = Callable[[str], Path]
SaeFolder = Callable[..., Path]
Loaded = Callable[[str], Model]


@pytest.fixture(scope="module")
def result(loaded: Loaded) -> Result:
    """A result of two SAEs with the same short name, whose second pair is skipped."""
    first, _, *others = tiny.triples(2)
    pairs = [first, ("Why?", " same", " same"), *others]
    saes = [load_sae(tiny.make_sae("standard")), load_sae(tiny.make_sae("topk"))]
    return attribute(loaded("llama"), saes, pairs, top_k=5)


def test_a_result_of_one_sae_is_the_list_of_its_analyses(result: Result) -> None:
    one = result.saes[1]

    assert len(one) == len(list(one)) == 6
    assert one[0] == one.analyses[0]
    assert one[-2:] == one.analyses[4:]
    assert "skipped" in one[1]
    assert one.counts == {"scored": 5, "skipped": 1, "error": 0}
    assert one.sae["architecture"] == "topk"
    assert one.pairs[1].target_response == " same"  # type: ignore[union-attr]


def test_an_sae_goes_by_its_name(result: Result) -> None:
    assert result.names == ("layer1-128 (0)", "layer1-128 (1)")
    assert result["layer1-128 (1)"].analyses == result.saes[1].analyses
    with pytest.raises(SettingsError, match=r"no SAE 'layer1'. Near: layer1-128"):
        result["layer1"]


@pytest.mark.parametrize("name", ["scores", "activations", "analyses", "sae", "counts"])
def test_one_sae_must_be_chosen_of_several(result: Result, name: str) -> None:
    with pytest.raises(SettingsError, match=r"is of 2 SAEs: layer1-128 \(0\), layer1-128 \(1\)"):
        getattr(result, name)
    with pytest.raises(SettingsError, match="Choose one"):
        next(iter(result))


def test_top_ranks_features_by_their_mean_score(result: Result) -> None:
    both = torch.stack([sae.scores[~sae.scores.isnan().any(dim=1)] for sae in result.saes])
    means = both.double().mean(dim=1)
    top = result.top(7)

    assert len(top) == 7
    sizes = top["mean_score"].abs()
    assert sizes.is_monotonic_decreasing
    assert sizes.min() >= means.flatten().abs().topk(7)[0][-1]
    for row in top.itertuples():
        number = result.names.index(row.sae)
        scores = both[number, :, row.feature]
        assert row.mean_score == pytest.approx(float(scores.double().mean()))
        assert row.mean_abs_score == pytest.approx(float(scores.abs().double().mean()))
        assert row.pairs == int((scores != 0).sum())


def test_to_frame_has_what_is_listed(result: Result) -> None:
    frame = result.to_frame()

    assert len(frame) == 2 * 5 * 5
    for name, one in zip(result.names, result.saes, strict=True):
        for pair, analysis in enumerate(one):
            rows = frame[(frame["sae"] == name) & (frame["pair"] == pair)]
            listed = analysis.get("top_features", [])
            assert list(rows["feature"].astype(str)) == [each["id"] for each in listed]
            assert list(rows["score"]) == [each["score"] for each in listed]


def test_nothing_scored_gives_empty_tables(loaded: Loaded) -> None:
    for pairs in ([], [("Why?", " same", " same")]):
        result = attribute(loaded("llama"), tiny.make_sae("standard"), pairs)
        assert result.top().empty
        assert result.to_frame().empty
        assert "strongest: -" in repr(result)
        assert result.scores.shape == (len(pairs), tiny.D_SAE)
        assert result._repr_html_()


def test_the_display_escapes_what_a_model_writes(loaded: Loaded) -> None:
    """A token is any text, and so is an SAE's name."""
    sae = load_sae(tiny.make_sae("standard"))
    object.__setattr__(sae, "label", "<img src=x>")
    pairs = [("Please comment.", " <b>yes</b>", " no & <i>never</i>"), *tiny.triples(4)]
    result = attribute(loaded("llama"), sae, pairs)
    shown = result._repr_html_()

    assert "<b>" not in shown
    assert "<i>" not in shown
    assert "<img" not in shown
    assert "&lt;" in shown
    assert "3 more pairs" in shown
    assert repr(result).splitlines()[0] == "Result of 13 pairs on tiny"
    assert "13 scored" in repr(result)


@pytest.mark.usefixtures("runs_share_models")
def test_features_are_selected_from_memory_as_from_a_file(
    tmp_path: Path,
    input_file: Path,
    model_folder: ModelFolder,
    sae_folder: SaeFolder,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The result of a file, one that was written as JSON, and that of the command."""
    model, saes = model_folder("llama"), [sae_folder("standard"), sae_folder("topk", layer=2)]
    options = [f"--model={model}", *(f"--sae={sae}" for sae in saes), f"--out={tmp_path / 'out'}"]
    assert main(["run", str(input_file), *options, "--prompt-activations"]) == ExitCode.OK
    files = capfd.readouterr().out.split()
    of_files = select_features(*files, min_log_ratio=-9, resamples=200)

    result = attribute(model, saes, input_file, prompt_activations=True)
    of_memory = select_features(result, min_log_ratio=-9, resamples=200)
    written = [tmp_path / f"atp_results_{number}.json" for number in range(2)]
    for path, one in zip(written, result.saes, strict=True):
        path.write_text(json.dumps(one.to_dict()), encoding="utf-8")
    of_written = select_features(*written, min_log_ratio=-9, resamples=200)

    for found in (of_memory, of_written):
        pd.testing.assert_frame_equal(found.table, of_files.table)
        assert found.selected == of_files.selected
    assert any(of_files.selected.values())
    assert {"I wrote", "tiny"} <= set(of_memory.table["value"].dropna())


def test_results_in_memory_and_of_files_go_together(loaded: Loaded, tmp_path: Path) -> None:
    """Two halves of some questions: the pairs of a result that is named twice count once."""
    sae, questions = load_sae(tiny.make_sae("standard")), tiny.questions()
    options = {"min_score": -9.0, "resamples": 200}
    first, second = (
        attribute(loaded("llama"), sae, half) for half in (questions[:3], questions[3:])
    )
    path = tmp_path / "first.json"
    path.write_text(json.dumps(first.to_dict()), encoding="utf-8")
    both = select_features(path, second, second, first, **options)

    assert both.saes[0].pairs == 15
    assert both.saes[0].groups[0].questions == 5
    with pytest.raises(
        InputError, match=r"<result 1> and <result 2> cannot be put together: settings\.top_k"
    ):
        select_features(first, attribute(loaded("llama"), sae, questions, top_k=3))


def test_a_result_keeps_no_sae(workplace: Path, loaded: Loaded) -> None:
    def count() -> int:
        gc.collect()
        return sum(issubclass(type(each), SAE) for each in gc.get_objects())

    model, before = loaded("llama"), count()
    result = attribute(model, workplace / "saes" / "layer1", tiny.triples(1))

    assert count() == before
    assert result.counts["scored"] == 3


def test_to_dict_leaves_the_questions_as_they_were(loaded: Loaded) -> None:
    questions = tiny.questions(2)
    before = json.dumps(questions)
    result = attribute(loaded("llama"), tiny.make_sae("standard"), questions)
    content = result.to_dict()

    assert json.dumps(questions) == before
    assert content["results"][0]["dataset"] == "tiny"
    assert content["results"][1]["variations"][3]["atp_analysis"] == result[5]


def test_a_file_that_has_changed_is_no_longer_described(loaded: Loaded, input_file: Path) -> None:
    result = attribute(loaded("llama"), tiny.make_sae("standard"), input_file)
    content = read(input_file)
    del content["results"][0]
    input_file.write_text(json.dumps(content), encoding="utf-8")

    with pytest.raises(InputError, match="was changed"):
        result.to_dict()
