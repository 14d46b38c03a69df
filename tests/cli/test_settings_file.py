"""A file of settings comes after the command line and the environment; a result repeats its run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from atp.cli.arguments import read
from atp.cli.build_settings import in_force, run_settings
from atp.config.option import ALL_COMMANDS
from atp.errors import InputError, SettingsError

STUDY = """
[run]
input = "answers.json"
model = "./model"
sae = ["a:b", "c:d"]
top-k = 7
exact = true
hook_layer = [9, 20]

[check]
top-k = 8

[features]
min-log-ratio = "none"
fdr = 0.05
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A file of settings."""
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


def options(study: Path, *argv: str, **environment: str) -> dict[str, Any]:
    """Return the options that a command line with a file of settings gives, without the file."""
    given = read([*argv, f"--config={study}"], environment)
    return {name: value for name, value in given.options.items() if name != "config"}


def test_a_command_takes_its_table(study: Path) -> None:
    assert options(study, "run") == {
        "model": "./model",
        "sae": ("a:b", "c:d"),
        "top_k": 7,
        "exact": "all",
        "hook_layer": (9, 20),
    }
    assert options(study, "features") == {"min_log_ratio": None, "fdr": 0.05}
    assert read(["run", f"--config={study}"], {}).arguments["INPUT"] == "answers.json"


@pytest.mark.parametrize("command", ["check", "fetch", "bench"])
def test_commands_with_the_options_of_a_run_take_those_of_its_table(
    study: Path, command: str
) -> None:
    expected = {**options(study, "run"), "top_k": 8 if command == "check" else 7}

    assert options(study, command) == expected


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(study: Path) -> None:
    assert options(study, "run", ATP_TOP_K="9")["top_k"] == 9
    assert options(study, "run", "--top-k=10", ATP_TOP_K="9")["top_k"] == 10
    assert options(study, "run", ATP_EXACT="0")["exact"] == "none"
    assert "sae" not in options(study, "run", ATP_HOOK_LAYER="9")
    given = read(["run", "mine.json", f"--config={study}"], {"ATP_INPUT": "other.json"})
    assert given.arguments["INPUT"] == "mine.json"


def test_the_environment_may_name_the_file(study: Path) -> None:
    assert read(["run"], {"ATP_CONFIG": str(study)}).options["top_k"] == 7


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("top-k = 3", "top-k stands in no table", "[run] top-k"),
        ("[ran]\ntop-k = 3", "[ran] is no command", "run"),
        ("[run]\ntopk = 3", "[run] topk is no option of atp run", "top-k"),
        ("[run]\nfdr = 0.1", "[run] fdr is no option of atp run", ""),
        ("[run]\ntop-k = 'many'", "[run] top-k must be a whole number", ""),
        ("[run]\ntop-k = true", "[run] top-k must be a value, not true", ""),
        ("[run]\nfresh = 1", "[run] fresh must be true or false, not 1", ""),
        ("[run]\nexact = 'some'", "[run] exact must be one of none, flagged, all", ""),
        ("[run]\ntop-k = ", "is not valid TOML", "atp config --help"),
        ("x = " + "[" * 100_000, "is not valid TOML", "atp config --help"),
        ("[run]\nconfig = 'x'", "[run] config is no option", ""),
    ],
)
def test_a_fault_of_the_file_is_told_with_its_place(
    tmp_path: Path, text: str, message: str, hint: str
) -> None:
    path = tmp_path / "study.toml"
    path.write_text(text)

    with pytest.raises(SettingsError) as caught:
        read(["run", "a.json", f"--config={path}"], {})

    assert str(path) in caught.value.message
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_file_that_atp_did_not_write_is_refused(tmp_path: Path) -> None:
    for content in ({"results": []}, {"metadata": {"atp": 3}, "results": []}, []):
        path = tmp_path / "other.json"
        path.write_text(json.dumps(content))
        with pytest.raises(SettingsError, match="is no file that atp wrote"):
            read(["run", f"--config={path}"], {})
    with pytest.raises(InputError, match="does not exist"):
        read(["run", f"--config={tmp_path / 'none.json'}"], {})
    with pytest.raises(InputError, match="does not exist"):
        read(["run", f"--config={tmp_path / 'none.toml'}"], {})
    with pytest.raises(InputError, match="is a pipe or a device"):
        read(["run", "--config=/dev/zero"], {})


# --- atp config


@pytest.mark.parametrize("command", [each for each in ALL_COMMANDS if " " not in each])
def test_the_settings_in_force_are_read_back(tmp_path: Path, command: str) -> None:
    arguments = {"fetch": [], "features": ["a"], "merge": ["a"]}.get(command, ["a.json"])
    given = read([command, *arguments, '--out=it"s', "-v"], {})
    path = tmp_path / "study.toml"
    path.write_text(in_force([command, *arguments, '--out=it"s', "-v"]))

    again = read([command, *arguments, f"--config={path}"], {})

    assert {**again.options, "config": None} == {**given.options, "config": None}


def test_defaults_are_shown_as_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATP_TOP_K", "7")

    lines = in_force(["run", "a.json", "--sae=x:y"]).splitlines()

    assert lines[0] == "[run]"
    assert {'input = "a.json"', "top-k = 7", 'sae = ["x:y"]'} <= set(lines)
    assert {'# model = "google/gemma-2-9b-it"', "# limit is not set", "# fresh = false"} <= set(
        lines
    )


def test_a_command_without_settings_is_told() -> None:
    with pytest.raises(SettingsError, match="atp completion has no settings"):
        in_force(["completion", "bash"])


# --- the files that atp writes


def written(tmp_path: Path, metadata: dict[str, Any]) -> Path:
    """Write a file with this `metadata.atp`."""
    path = tmp_path / "written.json"
    path.write_text(json.dumps({"metadata": {"atp": metadata}, "results": []}))
    return path


def test_a_result_repeats_the_settings_of_its_run(tmp_path: Path) -> None:
    argv = ["run", "a.json", "--model=./m", "--sae=x:y", "--sae=z", "--method=ig", "--top-k=3"]
    argv += ["--exact=all", "--shard=1/2", "--batch-tokens=99", "--out=there"]
    settings = run_settings(read(argv, {}))
    path = written(tmp_path, {"settings": settings.as_json()})

    assert run_settings(read(["run", f"--config={path}"], {})) == settings
    again = run_settings(read(["run", f"--config={path}", "--out=here", "--hook-layer=9"], {}))
    assert (again.out, again.sae, again.hook_layer) == (Path("here"), (), (9,))


def test_a_file_of_another_command_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, {"selection": {"seed": 3}})

    with pytest.raises(SettingsError, match="of atp features, not of atp run"):
        read(["run", f"--config={path}"], {})


def test_settings_in_force_do_not_name_the_file_that_they_come_from(study: Path) -> None:
    shown = in_force(["run", f"--config={study}"])

    assert "config" not in shown
    assert "top-k = 7" in shown


def test_a_features_file_repeats_its_selection(tmp_path: Path) -> None:
    path = written(tmp_path, {"selection": {"min_log_ratio": None, "fdr": None, "seed": 3}})

    assert options(path, "features", "a") == {"min_log_ratio": None, "seed": 3}
