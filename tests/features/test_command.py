"""`atp features` over made-up results: what is written, what is chosen, what is refused."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from disk import files_limited_to
from made_up_results import FACTS, dealt, shards
from made_up_scores import ERROR, MODEL, analyses, made, sae, source
from pyarrow import parquet
from runs import events, of, read

from atp.cli.main import main
from atp.config.shard import Shard
from atp.dataset.output import held
from atp.dataset.pairs import PairKey
from atp.errors import ExitCode
from atp.features import files
from atp.features.table import COLUMNS

LATER = "2026-01-31T13:00:00+00:00"
QUICK = ("--min-log-ratio=none", "--resamples=100")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An input."""
    return source(tmp_path)


@pytest.fixture
def written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., list[Path]]:
    """Return a function that runs the command into `tmp_path / "out"` and gives the files."""

    def run(*results: Path, options: tuple[str, ...] = QUICK) -> list[Path]:
        arguments = ["features", *map(str, results), *options, f"--out={tmp_path / 'out'}"]
        assert main(arguments) == ExitCode.OK
        return [Path(line) for line in capfd.readouterr().out.splitlines()]

    return run


@pytest.fixture
def refusal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that asks for what is refused, and gives the one line that says why."""

    def run(*results: Path, options: tuple[str, ...] = QUICK, code: int = ExitCode.USAGE) -> str:
        arguments = ["features", *map(str, results), *options, f"--out={tmp_path / 'out'}"]
        assert main(arguments) == code
        out, err = capfd.readouterr()
        line = events(err)[-1]
        assert out == ""
        assert (line["event"], line["exit_code"]) == ("atp.failed", code)
        assert line["hint"]
        assert not list((tmp_path / "out").glob("atp_*"))
        return f"{line['message']} {line['hint']}"

    return run


def edited(file: Path, change: Callable[[Any], object]) -> None:
    """Change a result file by hand."""
    content = read(file)
    change(content)
    file.write_text(json.dumps(content).replace("Infinity", "1e400"), encoding="utf-8")


# --- what is written


def test_the_three_files_hold_the_same_table(
    tmp_path: Path, path: Path, written: Callable[..., list[Path]]
) -> None:
    file = made(tmp_path / "in", path, exact="flagged", activations=True)

    paths = written(file, options=("--min-log-ratio=-1", "--resamples=100", "--epsilon=0.5"))

    assert [each.suffix for each in paths] == [".csv", ".parquet", ".json"]
    assert len({each.stem for each in paths}) == 1
    assert paths[0].name.startswith("atp_features_tiny_2")
    table = parquet.read_table(paths[1]).to_pandas()
    assert list(table.columns) == list(COLUMNS)
    pd.testing.assert_frame_equal(pd.read_csv(paths[0]), table, check_dtype=False)
    content = read(paths[2])
    (found,) = content["saes"]
    rows = table[table["group"] == "all"].set_index("feature")
    assert sorted(int(each["id"]) for each in found["features"]) == sorted(rows.index)
    for each in found["features"]:
        row = rows.loc[int(each.pop("id"))]
        for name, value in each.items():
            assert value == row[name] or (value is None and pd.isna(row[name])), name
    assert content["metadata"]["atp"]["selection"] == {
        "min_score": 0.0,
        "min_log_ratio": -1.0,
        "min_impact": 0.0,
        "fdr": None,
        "top_features": 50,
        "joint_effect": False,
        "epsilon": 0.5,
        "resamples": 100,
        "seed": 0,
    }


def test_the_features_file_is_as_intervene_reads_it(
    tmp_path: Path, path: Path, written: Callable[..., list[Path]]
) -> None:
    file = made(tmp_path / "in", path, exact="flagged")
    other = made(tmp_path / "other", path, of="b", seed=3, exact="flagged")

    *_, features = written(file, other, options=(*QUICK, "--top-features=3"))

    content = read(features)
    told, of_file = content["metadata"]["atp"], read(file)["metadata"]["atp"]
    assert (told["model"], told["method"]) == (of_file["model"], of_file["method"])
    assert [each["path"] for each in told["results"]] == [str(file), str(other)]
    assert [each["path"] for each in told["inputs"]] == [str(path)]
    assert told["settings"] == {"max_tokens_to_check": 20, "chat_template": False}
    assert all(len(each["sha256"]) == 64 and each["pairs"] for each in told["results"])
    assert [each["sae"] for each in content["saes"]] == [sae("a"), sae("b")]
    for each in content["saes"]:
        means = {feature["id"]: feature["mean_best"] for feature in each["features"]}
        scores = {feature["id"]: feature["mean_score"] for feature in each["features"]}
        ranked = sorted(means, key=lambda i: (-means[i], int(i)))
        assert each["selected"] == ranked[:3] != sorted(scores, key=lambda i: -scores[i])[:3]
        assert each["negative"] == sorted(means, key=lambda i: (means[i], int(i)))[:3]
        assert means[each["negative"][2]] < 0
        chosen = [feature["id"] for feature in each["features"] if feature["selected"]]
        assert chosen == each["selected"]
        assert [feature["id"] for feature in each["features"]] == ranked
        assert "joint" not in each
        assert each["groups"][0] == {
            "group": "all",
            "value": None,
            "pairs": each["pairs"],
            "questions": 8,
        }


def test_the_same_results_give_the_same_bytes(
    tmp_path: Path, path: Path, written: Callable[..., list[Path]]
) -> None:
    file = made(tmp_path / "in", path)

    first, second = written(file), written(file)

    assert set(first).isdisjoint(second)
    for one, two in zip(first[:2], second[:2], strict=True):
        assert one.read_bytes() == two.read_bytes()
    contents = [read(each[2]) for each in (first, second)]
    for content in contents:
        del content["metadata"]["atp"]["created"]
    assert contents[0] == contents[1]


def test_what_was_found_is_logged(
    tmp_path: Path, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = made(tmp_path / "in", path)

    main(["features", str(file), *QUICK, f"--out={tmp_path / 'out'}"])

    out, err = capfd.readouterr()
    log = events(err)
    assert [line["event"] for line in log] == [
        "features.found",
        "features.selected",
        "features.done",
    ]
    told = read(Path(out.splitlines()[-1]))["saes"][0]
    assert log[0]["errors"] == read(file)["metadata"]["atp"]["counts"]["error"] > 0
    assert log[1]["strongest"] == told["selected"][:10]
    assert (log[1]["pairs"], log[1]["selected"]) == (told["pairs"], len(told["selected"]))


def test_features_of_a_release_on_neuronpedia_have_their_links(
    tmp_path: Path, path: Path, written: Callable[..., list[Path]]
) -> None:
    release = {
        **sae(),
        "spec": "gemma-scope-9b-it-res-canonical:layer_31/width_16k/canonical",
        "repository": "google/gemma-scope-9b-it-res",
        "path": "layer_31/width_16k/average_l0_76",
    }
    file = made(tmp_path / "in", path, changed={"saes": [release]})
    moved = {**sae("b"), **{name: release[name] for name in ("spec", "repository")}, "path": "x"}
    other = made(tmp_path / "other", path, changed={"saes": [moved]})

    content = read(written(file, other)[-1])

    linked, unlinked = (each["features"] for each in content["saes"])
    for each in linked:
        page = f"https://www.neuronpedia.org/gemma-2-9b-it/31-gemmascope-res-16k/{each['id']}"
        assert each["link"] == page
    assert {each["link"] for each in unlinked} == {None}


def test_two_saes_of_one_name_are_told_apart(
    tmp_path: Path, path: Path, written: Callable[..., list[Path]]
) -> None:
    file = made(tmp_path / "in", path)
    other = made(tmp_path / "b", path, changed={"saes": [{**sae("b"), "spec": "sae-a"}]})

    names = pd.read_csv(written(file, other)[0])["sae"].unique()

    assert list(names) == ["sae-a (dddddddddddd)", "sae-a (eeeeeeeeeeee)"]


def test_one_sae_under_two_names_is_one(
    tmp_path: Path, path: Path, written: Callable[..., list[Path]]
) -> None:
    inputs = path, source(tmp_path, seed=1)
    one = made(tmp_path / "a", inputs[0])
    other = made(tmp_path / "b", inputs[1], changed={"saes": [{**sae(), "spec": "./elsewhere"}]})

    (found,) = read(written(one, other)[-1])["saes"]

    counts = [read(each)["metadata"]["atp"]["counts"]["scored"] for each in (one, other)]
    assert found["pairs"] == sum(counts)


# --- nothing selected


def test_an_empty_selection_writes_the_tables_and_says_what_took_the_features(
    tmp_path: Path, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = made(tmp_path / "in", path)

    code = main(["features", str(file), *QUICK, "--min-score=9", f"--out={tmp_path / 'out'}"])

    out, err = capfd.readouterr()
    *_, features = map(Path, out.splitlines())
    (found,) = read(features)["saes"]
    assert code == ExitCode.USAGE
    assert (found["selected"], found["negative"]) == ([], [])
    count = len(found["features"])
    (line,) = of("atp.failed", events(err))
    assert f"no feature is selected: --min-score=9 took {count}. The tables" in line["message"]
    assert line["hint"]
    (warned,) = of("features.none", events(err))
    assert warned["reason"] == f"--min-score=9 took {count}"


def test_an_sae_without_a_selection_beside_one_with_is_a_warning(
    tmp_path: Path, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = made(tmp_path / "in", path)
    found = analyses(path)
    for each in found.values():
        for feature in each.get("top_features", []):
            feature["score"] = -abs(feature["score"])
    other = made(tmp_path / "b", path, of="b", found=found)

    arguments = ["features", str(file), str(other), *QUICK, f"--out={tmp_path / 'out'}"]
    assert main(arguments) == ExitCode.OK

    log = events(capfd.readouterr().err)
    assert [line["sae"] for line in of("features.selected", log)] == ["sae-a"]
    assert [line["sae"] for line in of("features.none", log)] == ["sae-b"]


def test_pairs_without_a_score_leave_nothing_to_select(
    tmp_path: Path, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = analyses(path)
    for each in found.values():
        for feature in each.get("top_features", []):
            feature["score"] = 0.0
    file = made(tmp_path / "in", path, found=found)

    assert main(["features", str(file), *QUICK, f"--out={tmp_path / 'out'}"]) == ExitCode.USAGE

    out, err = capfd.readouterr()
    assert "no pair has a score other than 0" in of("atp.failed", events(err))[0]["message"]
    assert read(Path(out.splitlines()[-1]))["saes"][0]["features"] == []


# --- what is chosen


def test_of_a_folder_the_last_run_is_taken_with_all_its_saes(
    tmp_path: Path, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    old = made(folder, path)
    new = made(folder / "b", path, seed=1, changed={"started": LATER, "source_sha256": "e" * 64})
    part = Shard(0, 2)
    shard = made(
        folder / "c",
        path,
        found=dealt(analyses(path), part),
        changed={"shard": part, "started": "2026-01-31T14:00:00+00:00"},
    )

    assert main(["features", str(folder), *QUICK, f"--out={folder}"]) == ExitCode.OK

    (found,) = of("features.found", events(capfd.readouterr().err))
    assert found["results"] == [str(new)]
    assert found["left_out"] == [str(old)]
    assert shard.exists()
    # The features file beside the results is none of them.
    assert main(["features", str(folder), *QUICK, f"--out={folder}"]) == ExitCode.OK


def test_a_file_that_is_named_twice_or_is_in_a_folder_besides_is_taken_once(
    tmp_path: Path, path: Path, written: Callable[..., list[Path]]
) -> None:
    file = made(tmp_path / "in", path)

    content = read(written(file, file, tmp_path / "in" / ".." / "in")[-1])

    assert [each["path"] for each in content["metadata"]["atp"]["results"]] == [str(file)]
    assert content["saes"][0]["pairs"] == read(file)["metadata"]["atp"]["counts"]["scored"]


def test_a_pair_that_two_files_tell_alike_is_taken_once(
    tmp_path: Path, path: Path, written: Callable[..., list[Path]]
) -> None:
    file = made(tmp_path / "a", path)
    found = analyses(path)
    del found[PairKey(7, 1)]
    found[PairKey(0, 1)] = ERROR
    again = made(tmp_path / "b", path, found=found)
    edited(again, lambda content: content["metadata"]["atp"].update(complete=True))

    (both,) = read(written(file, again)[-1])["saes"]
    (alone,) = read(written(file)[-1])["saes"]

    assert both == alone


# --- what is refused


def test_a_pair_with_two_different_results_is_named(
    tmp_path: Path, path: Path, refusal: Callable[..., str]
) -> None:
    file = made(tmp_path / "a", path)
    found = analyses(path)
    found[PairKey(2, 1)]["top_features"][0]["score"] += 1e-6
    other = made(tmp_path / "b", path, found=found)

    line = refusal(file, other)

    assert f"results[2].variations[1] has different results in {file} and {other}" in line


@pytest.mark.parametrize(
    ("changed", "fact"),
    [
        ({"model": {**MODEL, "name": "other"}}, "model.name is tiny in one and other in the"),
        ({"model": {**MODEL, "dtype": "bfloat16"}}, "model.dtype is float32 in one and bfloat16"),
        ({"model": {**MODEL, "revision": "abc"}}, "model.revision is None in one and abc in"),
        ({"method": {**FACTS["method"], "baseline": "mean"}}, "method.baseline is None in one and"),
        ({"method": {"name": "integrated gradients"}}, "method.name is attribution patching in"),
        ({"settings": {"top_k": 7}}, "settings.top_k is 50 in one and 7 in the other"),
        ({"settings": {"chat_template": True}}, "settings.chat_template is False in one and True"),
        ({"settings": {"max_tokens_to_check": 5}}, "settings.max_tokens_to_check is 20 in one"),
    ],
)
def test_results_that_do_not_go_together_are_refused_by_the_fact(
    tmp_path: Path, path: Path, refusal: Callable[..., str], changed: dict[str, Any], fact: str
) -> None:
    file = made(tmp_path / "a", path)
    other = made(tmp_path / "b", path, of="b", changed=changed)

    line = refusal(file, other)

    assert f"{file} and {other} cannot be put together: {fact}" in line


def test_the_device_does_not_count_nor_the_name_of_weights_with_a_hash(
    tmp_path: Path, path: Path, written: Callable[..., list[Path]]
) -> None:
    hashed = {**MODEL, "sha256": "f" * 64}
    file = made(tmp_path / "a", path, changed={"model": hashed})
    same = {**hashed, "name": "copy", "device": "cuda"}
    other = made(tmp_path / "b", path, of="b", changed={"model": same})

    assert len(read(written(file, other)[-1])["saes"]) == 2


def test_a_shard_is_refused_with_the_mend(
    tmp_path: Path, path: Path, refusal: Callable[..., str]
) -> None:
    first, _ = shards(tmp_path / "in", path, 2)

    assert f"{first} is the result of shard 0/2, a part of a run" in refusal(first)
    line = refusal(tmp_path / "in")
    assert "is the result of shard" in line
    assert "atp merge" in line


def test_a_run_that_is_not_finished_is_refused_with_the_mend(
    tmp_path: Path, path: Path, refusal: Callable[..., str]
) -> None:
    found = analyses(path)
    found.popitem()
    file = made(tmp_path / "in", path, found=found)

    for named in (file, tmp_path / "in"):
        line = refusal(named)
        assert f"{file} is not complete, 1 pairs are left" in line
        assert "Start the same run again" in line


def test_what_is_no_result_is_told(tmp_path: Path, path: Path, refusal: Callable[..., str]) -> None:
    (tmp_path / "empty").mkdir()
    assert f"{path} is no result of atp run" in refusal(path)
    assert "none.json does not exist" in refusal(tmp_path / "none.json")
    assert "nor a folder in it holds a result" in refusal(tmp_path / "empty")
    file = made(tmp_path / "in", path)
    file.write_bytes(file.read_bytes()[:-40])
    assert f"{file} is not valid JSON at line" in refusal(file)


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.clear(),
        lambda told: told["sae"].pop("sha256"),
        lambda told: told["sae"].update(hook_name=7),
        lambda told: told.update(method="x"),
        lambda told: told.update(settings=None),
        lambda told: told["counts"].update(scored="8"),
        lambda told: told["counts"].pop("error"),
        lambda told: told["input"].pop("sha256"),
        lambda told: told["model"].pop("name"),
        lambda told: told.update(started="today"),
        lambda told: told.update(started="2026-01-31T12:00:00"),
        lambda told: told.update(complete="yes"),
        lambda told: told.update(fingerprint=None),
        lambda told: told["sae"].update(d_sae=float("inf")),
    ],
)
def test_a_result_that_does_not_say_what_it_is_of_is_none(
    tmp_path: Path, path: Path, refusal: Callable[..., str], change: Callable[[Any], object]
) -> None:
    file = made(tmp_path / "in", path)
    edited(file, lambda content: change(content["metadata"]["atp"]))

    assert f"{file} is no result of atp run" in refusal(file)


@pytest.mark.parametrize(
    "change",
    [
        lambda analysis: analysis.pop("top_features"),
        lambda analysis: analysis.pop("diagnostics"),
        lambda analysis: analysis.update(diagnostics=7),
        lambda analysis: analysis.update(top_features=[7]),
        lambda analysis: analysis["top_features"][0].pop("score"),
        lambda analysis: analysis["top_features"][0].update(score="1.0"),
        lambda analysis: analysis["top_features"][0].update(score=True),
        lambda analysis: analysis["top_features"][0].update(score=float("inf")),
        lambda analysis: analysis["top_features"][0].update(effect=None),
        lambda analysis: analysis["top_features"][0].update(id="-1"),
        lambda analysis: analysis["top_features"][0].update(id="x"),
        lambda analysis: analysis["top_features"][0].update(id=7),
        lambda analysis: analysis["top_features"][0].update(id=10**40),
        lambda analysis: analysis["top_features"][0].update(id=str(10**40)),
        lambda analysis: analysis["top_features"].append(analysis["top_features"][0]),
        lambda analysis: analysis.update(prompt_activations={"ids": ["1"], "flagged": [1.0]}),
        lambda analysis: analysis.update(
            prompt_activations={"ids": ["1", "2"], "flagged": [1.0], "base": [1.0, 2.0]}
        ),
        lambda analysis: analysis.update(prompt_activations=[]),
    ],
)
def test_an_analysis_that_atp_does_not_write_is_named(
    tmp_path: Path, path: Path, refusal: Callable[..., str], change: Callable[[Any], object]
) -> None:
    file = made(tmp_path / "in", path)
    edited(file, lambda content: change(content["results"][1]["variations"][1]["atp_analysis"]))

    line = refusal(file)

    assert f"{file}: the atp_analysis of results[1].variations[1] is not as atp writes it" in line


def test_a_result_from_which_pairs_were_taken_is_told(
    tmp_path: Path, path: Path, refusal: Callable[..., str]
) -> None:
    file = made(tmp_path / "in", path)
    edited(file, lambda content: content["results"][1]["variations"][1].pop("atp_analysis"))
    count = read(file)["metadata"]["atp"]["counts"]["scored"]

    assert f"holds {count - 1} scored pairs and says that it has {count}" in refusal(file)


def test_results_without_a_scored_pair_are_told(
    tmp_path: Path, path: Path, refusal: Callable[..., str]
) -> None:
    file = made(tmp_path / "in", path, found=dict.fromkeys(analyses(path), ERROR))

    assert f"{file} holds no scored pair" in refusal(file)


def test_a_given_ratio_without_activations_is_refused_with_the_mend(
    tmp_path: Path, path: Path, refusal: Callable[..., str]
) -> None:
    file = made(tmp_path / "in", path, activations=True)
    other = made(tmp_path / "b", path, of="b")

    line = refusal(file, other, options=("--min-log-ratio=0.5",))

    assert line == (
        f"{other}: no pair carries prompt_activations, which --min-log-ratio=0.5 needs. "
        "Run atp run with --prompt-activations, or pass --min-log-ratio=none."
    )


# --- the default ratio


def steps(sae: dict[str, Any]) -> list[str]:
    """Return the thresholds that were applied to an SAE."""
    return [step["threshold"] for step in sae["steps"]]


def test_results_without_activations_are_selected_without_the_default_ratio(
    tmp_path: Path, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = made(tmp_path / "in", path)

    contents = []
    for options in ([], ["--min-log-ratio=none"]):
        arguments = ["features", str(file), "--resamples=100", *options]
        assert main([*arguments, f"--out={tmp_path / 'out'}"]) == ExitCode.OK
        out, err = capfd.readouterr()
        contents.append(read(Path(out.splitlines()[-1])))
        warnings = of("features.no_ratio", events(err))
        assert [line["saes"] for line in warnings] == ([] if options else [["sae-a"]])

    default, none = contents
    assert default["saes"] == none["saes"]
    assert default["saes"][0]["selected"]
    assert steps(default["saes"][0]) == ["--min-score=0", "--min-impact=0", "--top-features=50"]
    selections = [content["metadata"]["atp"]["selection"] for content in contents]
    assert selections[0] == selections[1]
    assert selections[0]["min_log_ratio"] is None


def test_the_default_ratio_is_applied_to_the_saes_whose_pairs_carry_activations(
    tmp_path: Path, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with_activations = made(tmp_path / "in", path, activations=True)
    without = made(tmp_path / "b", path, of="b")
    arguments = ["features", str(with_activations), str(without), "--resamples=100"]

    assert main([*arguments, f"--out={tmp_path / 'out'}"]) == ExitCode.OK

    out, err = capfd.readouterr()
    content = read(Path(out.splitlines()[-1]))
    (warning,) = of("features.no_ratio", events(err))
    assert warning["saes"] == ["sae-b"]
    assert "--prompt-activations" in warning["reason"]
    assert ["--min-log-ratio=0.5" in steps(sae) for sae in content["saes"]] == [True, False]
    assert content["metadata"]["atp"]["selection"]["min_log_ratio"] == 0.5


# --- where it is written


def test_a_full_disk_is_told_with_the_bytes_needed(
    tmp_path: Path, path: Path, refusal: Callable[..., str]
) -> None:
    file = made(tmp_path / "in", path)

    with files_limited_to(2000):
        line = refusal(file, code=ExitCode.SAVE_FAILED)

    assert "it needs about" in line
    assert [each.name for each in (tmp_path / "out").iterdir()] == [".atp.lock"]


def test_a_folder_that_a_run_holds_is_busy(
    tmp_path: Path, path: Path, refusal: Callable[..., str]
) -> None:
    file = made(tmp_path / "in", path)

    with held(tmp_path / "out"):
        assert "another run is writing to" in refusal(file, code=ExitCode.BUSY)


def test_a_signal_ends_it_and_leaves_nothing_half_written(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = made(tmp_path / "in", path)
    monkeypatch.setattr(files, "as_json", lambda *_: partial(os.kill, os.getpid())(signal.SIGTERM))

    with pytest.raises(SystemExit) as caught:
        main(["features", str(file), *QUICK, f"--out={tmp_path / 'out'}"])

    assert caught.value.code == ExitCode.TERMINATED
    assert [each.name for each in (tmp_path / "out").iterdir()] == [".atp.lock"]
