"""The settings of each command, made of what a user gave and of the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from atp.config.checks import path
from atp.config.intervention import ComparisonSettings, InterventionSettings
from atp.config.method import Method
from atp.config.selection import SelectionSettings
from atp.config.settings import NO_INPUT, Settings
from atp.errors import SettingsError

if TYPE_CHECKING:
    from atp.cli.arguments import Given

# Where the container mounts its data.
VOLUME_INPUT, VOLUME_OUT = Path("/data/input"), Path("/data/results/feedback")


def run_settings(given: Given) -> Settings:
    """Return the settings of a command that runs a model, or prepares that."""
    values, arguments = given.values(Settings), given.arguments
    if not arguments["--sae"] and (arguments["--hook-layer"] or arguments["--sae-width"]):
        values.pop("sae", None)  # that of the environment loses to the command line
    if "shard" in values and given.command != "fetch":
        _check_shard(given.command, values)
    values["input"] = NO_INPUT if given.command == "fetch" else _input(arguments["INPUT"])
    values["out"] = _out(given)
    settings = Settings(**values, scoring=Method(**given.values(Method)))
    settings.scoring.check()
    return settings


def results_and_out(given: Given) -> tuple[list[Path], Path]:
    """Return the results that `atp merge` or `atp features` reads, and the folder it writes to."""
    return [path("RESULT", name) for name in given.arguments["RESULT"]], _out(given)


def selection_settings(given: Given) -> SelectionSettings:
    """Return the settings of `atp features`."""
    values = given.values(SelectionSettings)
    return SelectionSettings(**values, ratio_given="min_log_ratio" in values)


def intervention_settings(given: Given) -> InterventionSettings:
    """Return the settings that only `atp intervene` has."""
    values = given.values(InterventionSettings)
    if "features" not in values:
        msg = "--features is missing."
        hint = "Name the file that atp features wrote: atp intervene INPUT --features=FILE."
        raise SettingsError(msg, hint)
    return InterventionSettings(
        **values,
        model_given="model" in given.options,
        saes_given=not given.options.keys().isdisjoint({"sae", "hook_layer", "sae_width"}),
    )


def comparison_settings(given: Given) -> ComparisonSettings:
    """Return the settings of `atp intervene --compare`."""
    before, after = (path(name, given.arguments[name]) for name in ("BEFORE", "AFTER"))
    return ComparisonSettings(before, after, _out(given))


def newest_input(folder: Path) -> Path:
    """Return the newest *.json or *.jsonl file in `folder`."""
    matching = [*folder.glob("*.json"), *folder.glob("*.jsonl")]
    files = [file for file in matching if file.is_file()]
    if not files:
        msg = f"there is no *.json or *.jsonl file in {folder}."
        raise SettingsError(msg, "Put the input there, or name it: atp run INPUT.")
    return max(files, key=lambda file: (file.stat().st_mtime_ns, file.name))


def _input(name: str | None) -> Path:
    if not name and not VOLUME_INPUT.is_dir():
        msg = "INPUT is missing."
        raise SettingsError(msg, "Name the file of responses: atp run INPUT.")
    return path("INPUT", name or str(newest_input(VOLUME_INPUT)))


def _out(given: Given) -> Path:
    default = VOLUME_OUT if VOLUME_INPUT.is_dir() else Path("results/feedback")
    return Path(given.options.get("out", default))


def _check_shard(command: str, values: dict[str, Any]) -> None:
    if command == "bench":
        msg = f"atp bench measures the whole input, not the shard {values['shard']} of it."
        raise SettingsError(msg, "Leave out --shard, or ATP_SHARD.")
    if "batch_tokens" not in values:
        msg = "--shard needs --batch-tokens: its default depends on the memory that is free, "
        msg += "and every shard must make the same batches."
        raise SettingsError(msg, "Give all shards the same, as in --batch-tokens=8192.")
