"""The command line wins over the environment, which wins over the defaults; faults are one line."""

from __future__ import annotations

import json
import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from atp.cli import options, usage
from atp.cli.options import (
    EVERY_PARSER,
    OPTIONS_OF,
    check_options,
    compare_sources,
    features_sources,
    from_sources,
    intervene_sources,
    merge_sources,
    newest_input,
)
from atp.config.selection import PARSERS as FEATURES_PARSERS
from atp.config.selection import SelectionSettings
from atp.config.settings import (
    CANONICAL_RELEASES,
    PARSERS,
    Settings,
    sae_width,
)
from atp.config.shard import Shard
from atp.errors import SettingsError
from atp.model.dictionaries.names import check_sae_spec

INPUT = {"INPUT": "answers.json"}


@pytest.fixture(autouse=True)
def no_volume(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let the container's input folder be one of the test, not there yet; return it."""
    folder = tmp_path / "volume" / "input"
    monkeypatch.setattr(options, "VOLUME_INPUT", folder)
    return folder


def made(
    options: dict[str, Any] | None = None, environment: dict[str, str] | None = None
) -> Settings:
    """Return the settings of `atp run answers.json` with these options and this environment."""
    return from_sources({**INPUT, **(options or {})}, environment or {})


def refused(
    options: dict[str, Any] | None = None, environment: dict[str, str] | None = None
) -> str:
    """Return the one line by which settings are refused."""
    with pytest.raises(SettingsError) as caught:
        made(options, environment)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    return line


def test_the_defaults_are_those_that_the_readme_promises() -> None:
    assert made() == Settings(
        input=Path("answers.json"),
        out=Path("results/feedback"),
        model="google/gemma-2-9b-it",
        revision=None,
        sae=(),
        hook_layer=(31,),
        sae_width=16384,
        max_tokens_to_check=20,
        top_k=50,
        method="atp",
        ig_steps=10,
        baseline="zero",
        position="last",
        metric="first",
        sequence_tokens=20,
        exact=False,
        prompt_activations=False,
        chat_template=False,
        allow_other_model=False,
        model_dtype=None,
        device=None,
        batch_tokens=None,
        save_interval=10,
        limit=None,
        shard=None,
        fresh=False,
        rounds=3,
        json=False,
    )


def test_options_that_docopt_says_are_not_given_leave_the_defaults() -> None:
    nothing: dict[str, Any] = {
        "--top-k": None,
        "--fresh": False,
        "--sae": [],
        "--chat-template": False,
    }

    assert made(nothing) == made()


EXAMPLES = {
    "out": ("folder", Path("folder")),
    "model": ("gpt2", "gpt2"),
    "revision": ("main", "main"),
    "hook_layer": ("9,20,31", (9, 20, 31)),
    "sae_width": ("131k", 131072),
    "max_tokens_to_check": ("7", 7),
    "top_k": (" 10 ", 10),
    "model_dtype": ("bfloat16", "bfloat16"),
    "device": ("cuda:1", "cuda:1"),
    "batch_tokens": ("4096", 4096),
    "save_interval": ("1", 1),
    "limit": ("3", 3),
    "rounds": ("5", 5),
    "method": ("ig", "ig"),
    "ig_steps": ("50", 50),
    "baseline": ("base", "base"),
    "position": ("tail", "tail"),
    "metric": ("sequence", "sequence"),
    "sequence_tokens": ("5", 5),
}
SWITCHES = (
    *("chat_template", "allow_other_model", "fresh", "json"),
    *("exact", "prompt_activations"),
)
OTHER_SWITCHES = ("spare_first", "regenerate", "compare")
"""Of commands that have options of their own."""


def test_every_setting_has_its_example() -> None:
    assert {*EXAMPLES, *SWITCHES, "sae", "shard"} == set(PARSERS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_option_sets_its_field(name: str) -> None:
    text, value = EXAMPLES[name]

    assert getattr(made({"--" + name.replace("_", "-"): text}), name) == value


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_variable_sets_its_field(name: str) -> None:
    text, value = EXAMPLES[name]

    assert getattr(made(environment={f"ATP_{name.upper()}": text}), name) == value


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_is_set_by_option_or_variable(name: str) -> None:
    assert getattr(made({"--" + name.replace("_", "-"): True}), name) is True
    for text in ("1", "true", "YES", "on"):
        assert getattr(made(environment={f"ATP_{name.upper()}": text}), name) is True
    for text in ("0", "false", "No", "off", ""):
        assert getattr(made(environment={f"ATP_{name.upper()}": text}), name) is False


def test_saes_are_a_list_on_the_command_line_and_in_the_environment() -> None:
    assert made({"--sae": ["a:b", "folder"]}).sae == ("a:b", "folder")
    assert made(environment={"ATP_SAE": " a:b  folder\n"}).sae == ("a:b", "folder")
    assert made(environment={"ATP_SAE": "a:layer_* ./s/[ab]?"}).sae == ("a:layer_*", "./s/[ab]?")


@pytest.mark.parametrize(
    ("option", "given", "variable", "value"),
    [
        ("--top-k", "10", {"ATP_TOP_K": "20"}, 10),
        ("--model", "gpt2", {"ATP_MODEL": "other"}, "gpt2"),
        ("--sae", ["a:b"], {"ATP_SAE": "c:d"}, ("a:b",)),
        ("--fresh", True, {"ATP_FRESH": "0"}, True),
        ("--hook-layer", "9", {"ATP_HOOK_LAYER": "20"}, (9,)),
        ("--top-k", "10", {"ATP_TOP_K": "no number"}, 10),
    ],
)
def test_the_command_line_wins(
    option: str, given: Any, variable: dict[str, str], value: object
) -> None:
    assert getattr(made({option: given}, variable), option[2:].replace("-", "_")) == value


def test_the_input_may_come_from_the_environment_and_the_command_line_wins() -> None:
    environment = {"ATP_INPUT": "other.json"}

    assert from_sources({"INPUT": None}, environment).input == Path("other.json")
    assert from_sources(INPUT, environment).input == Path("answers.json")


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATP_TOP_K", "11")

    assert from_sources(INPUT).top_k == 11


def test_an_empty_variable_is_not_given() -> None:
    assert made(environment={"ATP_TOP_K": "", "ATP_MODEL": ""}) == made()


@pytest.mark.parametrize("environment", [{}, {"ATP_INPUT": ""}])
def test_a_missing_input_is_told(environment: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="INPUT is missing"):
        from_sources({"INPUT": None}, environment)


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("top_k", ["0", "-1", "1.5", "ten", "1e3", "", " ", "1\n2", "٣x", "0x10"]),
        ("max_tokens_to_check", ["0", "x"]),
        ("save_interval", ["0", "x"]),
        ("batch_tokens", ["0", "x"]),
        ("limit", ["0", "x"]),
        ("hook_layer", ["", "9,", "9;20", "9,9", "-1", "x", "9,20,9"]),
        ("sae_width", ["", "16", "0", "k", "16kk", "-16384", "1000", "x", "16 k"]),
        ("model_dtype", ["", "float16", "FLOAT32", "int8"]),
        ("device", ["", "gpu", "cuda:", "cuda:x", "CPU", "cpu\n"]),
        ("out", ["", "  "]),
        ("model", ["", " \n"]),
        ("revision", [""]),
    ],
)
def test_a_bad_value_is_refused_in_one_line_that_names_the_option(
    name: str, texts: list[str]
) -> None:
    option = "--" + name.replace("_", "-")

    for text in texts:
        assert option in refused({option: text}), text


def test_a_bad_value_in_the_environment_is_refused_by_the_name_of_the_variable() -> None:
    assert "ATP_TOP_K" in refused(environment={"ATP_TOP_K": "ten"})


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_that_is_neither_on_nor_off_is_refused(name: str) -> None:
    variable = f"ATP_{name.upper()}"

    assert variable in refused(environment={variable: "maybe"})


def test_an_unknown_variable_is_refused_with_near_names() -> None:
    line = refused(environment={"ATP_TOPK": "10"})

    assert "ATP_TOPK" in line
    assert "ATP_TOP_K" in line.partition("Near:")[2]


def test_variables_of_other_programs_are_left_alone() -> None:
    assert made(environment={"HOME": "x", "ATPX": "1", "MY_ATP_TOP_K": "x"}) == made()


# --- shards and what puts them together


def test_a_shard_is_set_by_option_or_variable_beside_a_token_budget() -> None:
    option = made({"--shard": "1/4", "--batch-tokens": "99"})
    variable = made(environment={"ATP_SHARD": "1/4", "ATP_BATCH_TOKENS": "99"})

    assert option.shard == variable.shard == Shard(1, 4)


def test_a_shard_without_a_token_budget_is_refused_and_says_why() -> None:
    for line in (refused({"--shard": "0/2"}), refused(environment={"ATP_SHARD": "0/2"})):
        assert "--shard needs --batch-tokens" in line
        assert "memory that is free" in line


def test_a_bad_shard_is_refused_by_the_name_it_was_given_under() -> None:
    assert "--shard counts from 0" in refused({"--shard": "2/2", "--batch-tokens": "9"})
    assert "ATP_SHARD counts from 0" in refused(environment={"ATP_SHARD": "2/2"})


def test_a_bench_is_of_the_whole_input() -> None:
    assert "ATP_SHARD" in refused({"bench": True}, {"ATP_SHARD": "0/2"})


def test_a_merge_takes_results_and_a_folder_and_nothing_else(no_volume: Path) -> None:
    given: dict[str, Any] = {"RESULT": ["a.json", "b"], "--fresh": False, "--sae": []}

    assert merge_sources(given, {}) == ([Path("a.json"), Path("b")], Path("results/feedback"))
    assert merge_sources({**given, "--out": "o"}, {"ATP_OUT": "p"})[1] == Path("o")
    assert merge_sources(given, {"ATP_OUT": "p", "ATP_TOP_K": "7"})[1] == Path("p")
    no_volume.mkdir(parents=True)
    assert merge_sources(given, {})[1] == options.VOLUME_OUT
    with pytest.raises(SettingsError, match="ATP_X"):
        merge_sources(given, {"ATP_X": "1"})
    for option, value in (("--top-k", "7"), ("--fresh", True), ("--sae", ["a:b"])):
        with pytest.raises(SettingsError, match=f"{option} is no option of atp merge"):
            check_options("merge", {**given, option: value})


FEATURES_EXAMPLES = {
    "min_score": ("-0.25", -0.25),
    "min_log_ratio": ("1e-1", 0.1),
    "min_impact": ("0.01", 0.01),
    "fdr": ("0.05", 0.05),
    "top_features": ("7", 7),
    "epsilon": ("1e-9", 1e-9),
    "resamples": ("100", 100),
    "seed": ("3", 3),
}


def features_choice(
    options: dict[str, str], environment: dict[str, str] | None = None
) -> SelectionSettings:
    """Return what `atp features a.json` is to select with these options and this environment."""
    return features_sources({"RESULT": ["a.json"], **options}, environment or {})[2]


def test_features_takes_results_and_a_folder_and_selects_as_the_study_did() -> None:
    given: dict[str, Any] = {"RESULT": ["a.json", "b"], "--out": "o", "--min-score": None}

    assert features_sources(given, {}) == (
        [Path("a.json"), Path("b")],
        Path("o"),
        SelectionSettings(),
    )
    assert SelectionSettings() == SelectionSettings(
        min_score=0.0,
        min_log_ratio=0.5,
        min_impact=0.0,
        fdr=None,
        top_features=50,
        epsilon=1e-6,
        resamples=9999,
        seed=0,
    )
    with pytest.raises(SettingsError, match="--top-k is no option of atp features"):
        check_options("features", {**given, "--top-k": "7"})
    with pytest.raises(SettingsError, match=r"--fdr is no option of atp run. It is one of atp fea"):
        check_options("run", {"--fdr": "0.05"})


@pytest.mark.parametrize("name", FEATURES_PARSERS)
def test_an_option_or_a_variable_sets_a_threshold(name: str) -> None:
    text, value = FEATURES_EXAMPLES[name]

    option = features_choice({"--" + name.replace("_", "-"): text}, {f"ATP_{name.upper()}": "0.5"})
    variable = features_choice({}, {f"ATP_{name.upper()}": text})

    assert getattr(option, name) == getattr(variable, name) == value
    assert FEATURES_EXAMPLES.keys() == FEATURES_PARSERS.keys()


def test_a_ratio_that_was_given_is_told_from_the_default() -> None:
    assert not features_choice({}).ratio_given
    assert features_choice({"--min-log-ratio": "0.5"}).ratio_given
    assert features_choice({}, {"ATP_MIN_LOG_RATIO": "0.5"}).ratio_given
    assert "ratio_given" not in features_choice({}).as_json()


@pytest.mark.parametrize("name", ["min_log_ratio", "fdr"])
def test_a_threshold_can_be_left_out(name: str) -> None:
    for text in ("none", " None "):
        assert getattr(features_choice({"--" + name.replace("_", "-"): text}), name) is None


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("min_score", ["", "x", "nan", "inf", "none"]),
        ("min_log_ratio", ["", "x", "-inf", "nothing"]),
        ("min_impact", ["", "-0.1", "none"]),
        ("fdr", ["0", "1.1", "5%", "-0.05"]),
        ("top_features", ["0", "none"]),
        ("epsilon", ["0", "-1e-6", "none"]),
        ("resamples", ["99", "1e4"]),
        ("seed", ["-1", "x"]),
    ],
)
def test_a_bad_threshold_is_refused_in_one_line(name: str, texts: list[str]) -> None:
    option = "--" + name.replace("_", "-")

    for text in texts:
        with pytest.raises(SettingsError, match=f"^{option} must be") as caught:
            features_choice({option: text})
        assert len(str(caught.value).splitlines()) == 1


def test_an_intervention_shares_options_with_a_run_and_has_its_own() -> None:
    given = {**INPUT, "--features": "f.json", "--strength": "0.5", "--limit": "3"}
    settings, own = intervene_sources(given, {"ATP_SEED": "7", "ATP_TOP_K": "9"})

    assert (settings.input, settings.limit, settings.top_k) == (Path("answers.json"), 3, 50)
    assert (own.features, own.strength, own.seed, own.controls) == (Path("f.json"), 0.5, 7, 20)
    assert (own.model_given, own.saes_given, own.spare_first) == (False, False, False)
    named, own = intervene_sources({**given, "--hook-layer": "9"}, {"ATP_SAE": "a:b"})
    assert (named.sae, named.hook_layer, own.saes_given) == ((), (9,), True)


def test_a_comparison_takes_two_files_and_a_folder_and_nothing_else() -> None:
    given: dict[str, Any] = {"--compare": True, "BEFORE": "b", "AFTER": "a", "--sae": []}

    assert compare_sources(given, {"ATP_OUT": "o", "ATP_SEED": "7"}).out == Path("o")
    with pytest.raises(SettingsError, match="--seed is no option of atp intervene --compare"):
        compare_sources({**given, "--seed": "7"}, {})


def test_a_command_takes_its_own_options_and_says_whose_another_is() -> None:
    check_options("run", {"--top-k": "7", "--json": False, "--rounds": None})
    with pytest.raises(SettingsError, match=r"--json is no option of atp run. It is one of atp ch"):
        check_options("run", {"--json": True})


# --- which SAEs


def test_saes_follow_from_layers_and_width() -> None:
    options = {"--hook-layer": "9,31", "--sae-width": "16k"}

    assert made(options).sae_specs == (
        "gemma-scope-9b-it-res-canonical:layer_9/width_16k/canonical",
        "gemma-scope-9b-it-res-canonical:layer_31/width_16k/canonical",
    )


@pytest.mark.parametrize(
    ("text", "directory"),
    [
        ("16384", "16k"),
        ("16k", "16k"),
        ("16K", "16k"),
        ("32768", "32k"),
        ("32k", "32k"),
        ("65536", "65k"),
        ("65k", "65k"),
        ("131072", "131k"),
        ("131k", "131k"),
        ("262144", "262k"),
        ("262k", "262k"),
        ("524288", "524k"),
        ("524k", "524k"),
        ("1048576", "1m"),
        ("1m", "1m"),
    ],
)
def test_a_width_names_the_gemma_scope_sae_of_that_many_features(text: str, directory: str) -> None:
    (spec,) = made({"--sae-width": text, "--model": "google/gemma-2-9b"}).sae_specs

    assert spec == f"gemma-scope-9b-pt-res-canonical:layer_31/width_{directory}/canonical"


def test_a_width_in_either_spelling_is_the_same_setting() -> None:
    assert [sae_width("--sae-width", text) for text in ("65k", "131k", "1m")] == [
        2**16,
        2**17,
        2**20,
    ]


@pytest.mark.parametrize("text", ["2m", "2097152"])
def test_a_width_that_no_sae_has_is_never_taken_for_another(text: str) -> None:
    options = {"--sae-width": text, "--model": "google/gemma-2-2b", "--hook-layer": "5"}

    with pytest.raises(SettingsError):
        check_sae_spec(*made(options).sae_specs)


def test_named_saes_win_over_layers_and_width() -> None:
    options = {"--sae": ["a:b"], "--hook-layer": "9", "--sae-width": "16k", "--model": "gpt2"}

    assert made(options).sae_specs == ("a:b",)


def test_a_model_without_known_sae_asks_for_one() -> None:
    with pytest.raises(SettingsError) as caught:
        _ = made({"--model": "gpt2"}).sae_specs

    assert "'gpt2'" in str(caught.value)
    assert "--sae=" in caught.value.hint


@pytest.mark.parametrize(
    ("model", "sae_id"),
    [
        ("google/gemma-2-9b-it", "layer_31/width_16k/canonical"),
        ("google/gemma-2-9b", "layer_31/width_16k/canonical"),
        ("google/gemma-2-2b", "layer_25/width_16k/canonical"),
        ("google/gemma-2-27b", "layer_22/width_131k/canonical"),
    ],
)
def test_the_canonical_releases_are_known_to_saelens(model: str, sae_id: str) -> None:
    check_sae_spec(f"{CANONICAL_RELEASES[model]}:{sae_id}")


def test_every_canonical_release_is_tried_above() -> None:
    models = {
        "google/gemma-2-9b-it",
        "google/gemma-2-9b",
        "google/gemma-2-2b",
        "google/gemma-2-27b",
    }

    assert set(CANONICAL_RELEASES) == models


# --- the one list of options


def test_the_usage_lists_exactly_the_settings() -> None:
    listed = re.findall(r"^  (--[a-z-]+)", usage.USAGE, re.MULTILINE)

    assert sorted(listed) == sorted(
        ["--version", *("--" + name.replace("_", "-") for name in EVERY_PARSER)]
    )


def test_every_option_is_one_of_a_command() -> None:
    assert set().union(*OPTIONS_OF.values()) == set(EVERY_PARSER)


def test_the_parsers_are_the_fields_of_settings_but_the_input() -> None:
    assert ["input", *PARSERS] == sorted(
        (field.name for field in fields(Settings)), key=["input", *PARSERS].index
    )


def test_the_usage_tells_which_options_take_a_value() -> None:
    takes_value = set(re.findall(r"^  (--[a-z-]+)=", usage.USAGE, re.MULTILINE))

    assert takes_value == {
        "--" + name.replace("_", "-")
        for name in EVERY_PARSER
        if name not in {*SWITCHES, *OTHER_SWITCHES}
    }


@pytest.mark.parametrize(
    "name",
    [
        *("model", "hook_layer", "sae_width", "max_tokens_to_check", "top_k", "save_interval"),
        *FEATURES_PARSERS,
    ],
)
def test_the_usage_tells_the_default(name: str) -> None:
    default = getattr(SelectionSettings() if name in FEATURES_PARSERS else made(), name)
    default = {0.0: 0, None: "none", 1e-6: "1e-6"}.get(default, default)
    spelled = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    option = name.replace("_", "-")
    entry = re.search(rf"^  --{option}=.*?(?=^  --|^\S|^$)", usage.USAGE, re.MULTILINE | re.DOTALL)

    assert entry is not None
    assert f"default {spelled})" in " ".join(entry[0].split())


# --- what a run tells of its settings


def test_settings_are_json_values() -> None:
    values = made({"--sae": ["a:b"], "--out": "o"}).as_json()

    assert set(values) == {"input", *PARSERS} - {"rounds", "json"}  # of other commands
    assert values["out"] == "o"
    assert json.loads(json.dumps(values))["sae"] == ["a:b"]


@pytest.mark.parametrize(
    ("option", "text"),
    [("--max-tokens-to-check", "3"), ("--top-k", "3"), ("--limit", "3"), ("--chat-template", True)],
)
def test_what_changes_a_score_decides_the_run(option: str, text: Any) -> None:
    assert made({option: text}).deciding_numbers() != made().deciding_numbers()


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--method", "ig"),
        ("--baseline", "base"),
        ("--position", "tail"),
        ("--metric", "sequence"),
        ("--exact", True),
        ("--prompt-activations", True),
    ],
)
def test_how_features_are_scored_is_a_fact_of_the_run(option: str, text: Any) -> None:
    plain, other = made(), made({option: text})
    assert other.scoring.describe(other.sequence) != plain.scoring.describe(plain.sequence)


def test_a_baseline_of_prompts_goes_with_their_last_tokens_alone() -> None:
    message = refused({"--baseline": "base", "--position": "all"})
    assert message.startswith("--baseline=base compares the last tokens of prompts")
    assert "--position=last" in refused({"--baseline": "mean"}, {"ATP_POSITION": "tail"})


@pytest.mark.parametrize(
    ("option", "text"),
    [("--method", "igs"), ("--baseline", "0"), ("--position", "first"), ("--metric", "x")],
)
def test_a_name_is_one_of_a_few(option: str, text: str) -> None:
    assert f"{option} must be one of" in refused({option: text})


def test_two_shards_are_two_runs() -> None:
    shards = [made({"--shard": text, "--batch-tokens": "9"}) for text in ("0/2", "1/2")]

    assert [each.deciding_numbers()["shard"] for each in shards] == ["0/2", "1/2"]
    assert [each.as_json()["shard"] for each in shards] == ["0/2", "1/2"]


@pytest.mark.parametrize(
    ("option", "text"), [("--out", "o"), ("--save-interval", "3"), ("--fresh", True)]
)
def test_what_changes_no_score_does_not_decide_the_run(option: str, text: Any) -> None:
    assert made({option: text}).deciding_numbers() == made().deciding_numbers()


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

    found = from_sources({"INPUT": None}, {})

    assert found.input == no_volume / "a.json"
    assert found.out == options.VOLUME_OUT


def test_on_the_volume_what_is_given_wins(no_volume: Path) -> None:
    no_volume.mkdir(parents=True)
    (no_volume / "a.json").touch()

    found = from_sources({"INPUT": "mine.json", "--out": "there"}, {})

    assert (found.input, found.out) == (Path("mine.json"), Path("there"))
