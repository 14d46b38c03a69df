"""The settings of a command follow from what a user gives, and options that go together do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from atp.cli import build_settings
from atp.cli.arguments import read
from atp.cli.build_settings import (
    comparison_settings,
    intervention_settings,
    newest_input,
    results_and_out,
    run_settings,
    selection_settings,
)
from atp.config.selection import SelectionSettings
from atp.config.settings import NO_INPUT, Settings
from atp.config.shard import Shard
from atp.errors import SettingsError


@pytest.fixture(autouse=True)
def no_volume(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let the container's input folder be one of the test, not there yet; return it."""
    folder = tmp_path / "volume" / "input"
    monkeypatch.setattr(build_settings, "VOLUME_INPUT", folder)
    return folder


def made(*argv: str, **environment: str) -> Settings:
    """Return the settings of `atp run answers.json` with these options and this environment."""
    return run_settings(read(["run", "answers.json", *argv], environment))


def refused(*argv: str, **environment: str) -> str:
    """Return the one line by which settings are refused."""
    with pytest.raises(SettingsError) as caught:
        run_settings(read(argv, environment))
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    return line


def test_settings_that_are_not_given_are_the_defaults() -> None:
    assert made() == Settings(input=Path("answers.json"), out=Path("results/feedback"))


def test_settings_are_what_is_given() -> None:
    settings = made("--top-k=7", "--method=ig", "--metric=sequence", ATP_LIMIT="3")

    assert (settings.top_k, settings.limit) == (7, 3)
    assert (settings.scoring.name, settings.scoring.sequence) == ("ig", 20)


def test_the_command_lines_layers_or_width_win_over_the_environments_saes() -> None:
    assert made(ATP_SAE="c:d").sae == ("c:d",)
    assert made("--sae=a:b", ATP_SAE="c:d").sae == ("a:b",)
    assert made("--hook-layer=9", "--sae=a:b", ATP_SAE="c:d").sae == ("a:b",)
    for option in ("--hook-layer=9", "--sae-width=32k", "--sae-l0=big", "--sae-site=mlp"):
        assert made(option, ATP_SAE="c:d").sae == ()
    assert made(ATP_SAE="c:d", ATP_HOOK_LAYER="9").sae == ("c:d",)


@pytest.mark.parametrize("environment", [{}, {"ATP_INPUT": ""}])
def test_a_missing_input_is_told(environment: dict[str, str]) -> None:
    assert refused("run", **environment).startswith("INPUT is missing.")


def test_a_fetch_needs_no_input_and_takes_a_shard_as_it_is() -> None:
    settings = run_settings(read(["fetch", "--shard=0/2"], {"ATP_INPUT": "answers.json"}))

    assert settings.input == NO_INPUT


def test_settings_that_contradict_each_other_are_refused() -> None:
    line = refused("run", "a.json", "--baseline=mean", ATP_POSITION="tail")

    assert line.startswith("--baseline=mean compares the last tokens of prompts")
    assert "--position=last" in line


@pytest.mark.parametrize(
    "argv",
    [
        ["run", "\udcff.json"],
        ["run", "a.json", "--out=\udcff"],
    ],
)
def test_a_name_that_a_result_cannot_record_is_refused(argv: list[str]) -> None:
    assert "is not UTF-8" in refused(*argv)


# --- shards


def test_a_shard_comes_with_a_token_budget() -> None:
    option = made("--shard=1/4", "--batch-tokens=99")
    variable = made(ATP_SHARD="1/4", ATP_BATCH_TOKENS="99")

    assert option.shard == variable.shard == Shard(1, 4)


def test_a_shard_without_a_token_budget_is_refused_and_says_why() -> None:
    for line in (refused("run", "a", "--shard=0/2"), refused("check", "a", ATP_SHARD="0/2")):
        assert "--shard needs --batch-tokens" in line
        assert "memory that is free" in line


def test_a_bad_shard_is_refused_by_the_name_it_was_given_under() -> None:
    assert "--shard counts from 0" in refused("run", "a", "--shard=2/2", "--batch-tokens=9")
    assert "ATP_SHARD counts from 0" in refused("run", "a", ATP_SHARD="2/2")


def test_a_bench_is_of_the_whole_input() -> None:
    assert "ATP_SHARD" in refused("bench", "a", ATP_SHARD="0/2")


# --- the commands that read what runs have written


@pytest.mark.parametrize("command", ["merge", "features"])
def test_results_are_read_and_a_folder_is_written(command: str) -> None:
    given = read([command, "a.json", "b"], {})

    assert results_and_out(given)[0] == [Path("a.json"), Path("b")]
    assert results_and_out(read([command, "a"], {"ATP_OUT": "p"}))[1] == Path("p")
    assert results_and_out(read([command, "a", "--out=o"], {"ATP_OUT": "p"}))[1] == Path("o")
    with pytest.raises(SettingsError, match="is not UTF-8"):
        results_and_out(read([command, "\udcff"], {}))


def test_a_merge_is_written_where_runs_write(no_volume: Path) -> None:
    given = read(["merge", "a"], {})

    assert results_and_out(given)[1] == Path("results/feedback")
    no_volume.mkdir(parents=True)
    assert results_and_out(given)[1] == build_settings.VOLUME_OUT


def test_features_are_written_beside_the_first_result(tmp_path: Path) -> None:
    (tmp_path / "result.json").touch()
    for result in (tmp_path, tmp_path / "result.json"):
        given = read(["features", str(result), "other"], {})
        assert results_and_out(given)[1] == tmp_path


def test_features_are_of_the_folder_that_runs_write_to_unless_told_otherwise() -> None:
    folder = Path("results/feedback")
    assert results_and_out(read(["features"], {})) == ([folder], folder)
    assert results_and_out(read(["features", "--out=o"], {})) == ([Path("o")], Path("o"))


def test_a_selection_is_as_the_study_did_unless_told_otherwise() -> None:
    assert selection_settings(read(["features", "a"], {})) == SelectionSettings()
    given = selection_settings(read(["features", "a", "--fdr=0.05"], {"ATP_SEED": "3"}))
    assert given == SelectionSettings(fdr=0.05, seed=3)


def test_a_ratio_that_was_given_is_told_from_the_default() -> None:
    assert not selection_settings(read(["features", "a"], {})).ratio_given
    for argv, environment in ((["--min-log-ratio=0.5"], {}), ([], {"ATP_MIN_LOG_RATIO": "0.5"})):
        settings = selection_settings(read(["features", "a", *argv], environment))
        assert settings.ratio_given
        assert settings.as_json() == SelectionSettings().as_json()


def test_an_intervention_shares_options_with_a_run_and_has_its_own() -> None:
    argv = ["intervene", "a.json", "--features=f.json", "--strength=0.5", "--limit=3"]
    given = read(argv, {"ATP_SEED": "7", "ATP_TOP_K": "9"})
    settings, own = run_settings(given), intervention_settings(given)

    assert (settings.input, settings.limit, settings.top_k) == (Path("a.json"), 3, 50)
    assert (own.features, own.strength, own.seed, own.controls) == (Path("f.json"), 0.5, 7, 20)
    assert own.given == {"features", "strength", "limit", "seed"}


def test_an_intervention_takes_the_newest_features_file_of_the_folder(tmp_path: Path) -> None:
    given = read(["intervene", "a.json", f"--out={tmp_path}"], {})
    with pytest.raises(SettingsError, match="--features is missing"):
        intervention_settings(given)
    touch(tmp_path / "atp_features_old.json", 100)
    newest = touch(tmp_path / "atp_features_new.json", 200)
    touch(tmp_path / "atp_results_new.json", 300)

    assert intervention_settings(given).features == newest
    assert intervention_settings(read(["intervene"], {"ATP_FEATURES": "f"})).features == Path("f")


def test_an_intervention_writes_beside_its_features_file_and_reads_its_input(
    tmp_path: Path,
) -> None:
    file = touch(tmp_path / "features.json", 100)

    settings = run_settings(read(["intervene", f"--features={file}"], {}))

    assert (settings.input, settings.out) == (NO_INPUT, tmp_path)


def test_a_comparison_takes_two_files_and_a_folder() -> None:
    given = read(["intervene", "--compare", "b", "a"], {"ATP_OUT": "o", "ATP_SEED": "7"})

    settings = comparison_settings(given)

    assert (settings.before, settings.after, settings.out) == (Path("b"), Path("a"), Path("o"))


# --- the container's input


def touch(path: Path, seconds: int) -> Path:
    """Make a file with this time."""
    path.touch()
    os.utime(path, (seconds, seconds))
    return path


def test_the_newest_input_is_taken(tmp_path: Path) -> None:
    touch(tmp_path / "z.json", 100)
    newest = touch(tmp_path / "a.jsonl", 200)
    touch(tmp_path / "notes.txt", 300)

    assert newest_input(tmp_path) == newest


def test_of_two_equally_new_inputs_the_last_by_name_is_taken(tmp_path: Path) -> None:
    touch(tmp_path / "a.json", 100)
    last = touch(tmp_path / "b.json", 100)

    assert newest_input(tmp_path) == last


def test_a_folder_is_no_input_whatever_its_name(tmp_path: Path) -> None:
    newest = touch(tmp_path / "a.json", 100)
    (tmp_path / "b.json").mkdir()

    assert newest_input(tmp_path) == newest


def test_no_input_is_told_with_the_folder(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        newest_input(tmp_path)

    assert str(tmp_path) in str(caught.value)


def test_on_the_volume_input_and_output_have_their_places(no_volume: Path) -> None:
    no_volume.mkdir(parents=True)
    (no_volume / "a.json").touch()

    settings = run_settings(read(["run"], {}))

    assert settings.input == no_volume / "a.json"
    assert settings.out == build_settings.VOLUME_OUT


def test_on_the_volume_what_is_given_wins(no_volume: Path) -> None:
    no_volume.mkdir(parents=True)
    (no_volume / "a.json").touch()

    settings = run_settings(read(["run", "mine.json", "--out=there"], {}))

    assert (settings.input, settings.out) == (Path("mine.json"), Path("there"))
