"""The settings of each command, made of what a user gave and of the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from atp.cli.arguments import read
from atp.cli.settings_file import as_toml
from atp.config.checks import path
from atp.config.intervention import ComparisonSettings, InterventionSettings
from atp.config.method import Method
from atp.config.report import ReportSettings
from atp.config.rescore import RescoreSettings
from atp.config.run import RunSettings
from atp.config.selection import SelectionSettings
from atp.config.settings import NO_INPUT, Settings
from atp.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.cli.arguments import Given

# Where the container mounts its data.
VOLUME_INPUT, VOLUME_OUT = Path("/data/input"), Path("/data/results/feedback")


def run_settings(given: Given) -> Settings:
    """Return the settings of a command that runs a model, or prepares that."""
    values = given.values(Settings)
    if "shard" in values and given.command != "fetch":
        _check_shard(given.command, values)
    values["input"] = _input(given)
    values["out"] = _out(given, given.options.get("features"))
    settings = Settings(**values, scoring=Method(**given.values(Method)))
    settings.scoring.check()
    return settings


def rescore_settings(given: Given) -> RescoreSettings:
    """Return the settings of `atp rescore`."""
    vectors, name = path("VECTORS", given.arguments["VECTORS"]), given.arguments["INPUT"]
    saes = given.values(Settings)
    saes.pop("out", None)
    own_input = path("INPUT", name) if name else None
    return RescoreSettings(vectors, _beside_vectors(given), saes, own_input)


def _beside_vectors(given: Given) -> Path:
    """Return the folder to write to; by default the one in which the folder of vectors is."""
    vectors = Path(given.arguments["VECTORS"])
    return _out(given, vectors.parent if vectors.name.startswith("atp_vectors_") else vectors)


def results_and_out(given: Given) -> tuple[list[Path], Path]:
    """Return the results that merge, features or report reads, and the folder it writes to."""
    results = [path("RESULT", name) for name in given.arguments["RESULT"]] or [_out(given)]
    if given.command == "merge":
        return results, _out(given)
    return results, _out(given, results[0])


def selection_settings(given: Given) -> SelectionSettings:
    """Return which features to select, for `atp features` and `atp report`."""
    values = given.values(SelectionSettings)
    return SelectionSettings(**values, ratio_given="min_log_ratio" in values)


def report_settings(given: Given) -> ReportSettings:
    """Return the settings that only `atp report` has, and `--report` of `atp run`."""
    return ReportSettings(**given.values(ReportSettings))


def own_run_settings(given: Given) -> RunSettings:
    """Return the settings of a run that its results do not name."""
    own = RunSettings(**given.values(RunSettings))
    values = given.values(Settings)
    own.check(values.get("device"), values.get("device_map"))
    return own


def intervention_settings(given: Given) -> InterventionSettings:
    """Return the settings that only `atp intervene` has."""
    values = given.values(InterventionSettings)
    if "features" not in values:
        values["features"] = newest_features(_out(given))
    return InterventionSettings(**values, given=frozenset(given.options))


def comparison_settings(given: Given) -> ComparisonSettings:
    """Return the settings of `atp intervene --compare`."""
    before, after = (path(name, given.arguments[name]) for name in ("BEFORE", "AFTER"))
    return ComparisonSettings(before, after, _out(given))


def in_force(argv: Sequence[str]) -> str:
    """Return the settings that a command line would have, as TOML."""
    given = read(argv)
    if given.command in {"config", "completion", "saes", "intervene --compare"}:
        msg = f"atp {given.command} has no settings."
        raise SettingsError(msg, "Name another command: atp config run INPUT.")
    if given.command == "rescore":
        return as_toml(given, _beside_vectors(given))
    reads_results = given.command in {"features", "merge", "report"}
    return as_toml(given, results_and_out(given)[1] if reads_results else _out(given))


def newest_input(folder: Path) -> Path:
    """Return the newest *.json or *.jsonl file in `folder`."""
    newest = _newest(folder, "*.json", "*.jsonl")
    if newest is None:
        msg = f"there is no *.json or *.jsonl file in {folder}."
        raise SettingsError(msg, "Put the input there, or name it: atp run INPUT.")
    return newest


def newest_features(folder: Path) -> Path:
    """Return the newest file in `folder` that `atp features` wrote."""
    newest = _newest(folder, "atp_features_*.json")
    if newest is None:
        msg = f"--features is missing, and {folder} holds no file that atp features wrote."
        raise SettingsError(msg, "Run atp features first, or name its file: --features=FILE.")
    return newest


def _newest(folder: Path, *patterns: str) -> Path | None:
    files = [file for pattern in patterns for file in folder.glob(pattern) if file.is_file()]
    return max(files, key=lambda file: (file.stat().st_mtime_ns, file.name), default=None)


def _input(given: Given) -> Path:
    name = given.arguments.get("INPUT")
    if name:
        return path("INPUT", name)
    if given.command in {"fetch", "intervene"}:  # the one reads none, the other finds its own
        return NO_INPUT
    if not VOLUME_INPUT.is_dir():
        msg = "INPUT is missing."
        raise SettingsError(msg, f"Name the file of responses: atp {given.command} INPUT.")
    return path("INPUT", str(newest_input(VOLUME_INPUT)))


def _out(given: Given, beside: Path | None = None) -> Path:
    """Return the folder to write to; by default that of a file which the command reads."""
    if "out" in given.options:
        return Path(given.options["out"])
    if beside is not None:
        return beside.parent if beside.is_file() else beside
    return VOLUME_OUT if VOLUME_INPUT.is_dir() else Path("results/feedback")


def _check_shard(command: str, values: dict[str, Any]) -> None:
    if command == "bench":
        msg = f"atp bench measures the whole input, not the shard {values['shard']} of it."
        raise SettingsError(msg, "Leave out --shard, or ATP_SHARD.")
    if "batch_tokens" not in values:
        msg = "--shard needs --batch-tokens: its default depends on the memory that is free, "
        msg += "and every shard must make the same batches."
        raise SettingsError(msg, "Give all shards the same, as in --batch-tokens=8192.")
