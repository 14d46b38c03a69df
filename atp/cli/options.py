"""Where settings come from: the command line over the environment over the defaults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atp.config.intervention import OF_RUN, ComparisonSettings, InterventionSettings
from atp.config.intervention import PARSERS as OF_INTERVENE
from atp.config.selection import PARSERS as OF_FEATURES
from atp.config.selection import SelectionSettings
from atp.config.settings import NO_INPUT, PARSERS, Settings
from atp.errors import SettingsError, did_you_mean
from atp.runtime.paths import local_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EVERY_PARSER: dict[str, Callable[[str, str], Any]] = {**PARSERS, **OF_FEATURES, **OF_INTERVENE}
"""Every option that a command knows; any of them may stand in the environment."""

OPTIONS_OF: dict[str, set[str]] = {
    "run": {*PARSERS} - {"rounds", "json"},
    "check": {*PARSERS} - {"rounds"},
    "fetch": {*PARSERS} - {"rounds", "json"},
    "bench": {*PARSERS} - {"json"},
    "merge": {"out"},
    "features": {"out", *OF_FEATURES},
    "intervene": OF_RUN | {*OF_INTERVENE},
}
"""What each command takes on its command line."""

VOLUME_INPUT, VOLUME_OUT = Path("/data/input"), Path("/data/results/feedback")
"""Where the container mounts its data."""


def newest_input(folder: Path) -> Path:
    """Return the newest *.json or *.jsonl file in `folder`."""
    files = [
        path for pattern in ("*.json", "*.jsonl") for path in folder.glob(pattern) if path.is_file()
    ]
    if not files:
        msg = f"there is no *.json or *.jsonl file in {folder}."
        raise SettingsError(msg, "Put the input there, or name it: atp run INPUT.")
    return max(files, key=lambda path: (path.stat().st_mtime_ns, path.name))


def _chooses_sae(arguments: Mapping[str, Any]) -> bool:
    """Say whether the command line itself names a layer or a width."""
    return bool(arguments.get("--hook-layer") or arguments.get("--sae-width"))


def _input(arguments: Mapping[str, Any], environment: Mapping[str, str]) -> Path:
    source = arguments.get("INPUT") or environment.get("ATP_INPUT") or None
    if source is None and not VOLUME_INPUT.is_dir():
        msg = "INPUT is missing."
        raise SettingsError(msg, "Name the file of answers: atp run INPUT.")
    return local_path(source) if source else newest_input(VOLUME_INPUT)


def from_sources(
    arguments: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> Settings:
    """Merge the command line over the environment over the defaults.

    Args:
        arguments: what docopt found, e.g. {"INPUT": None, "--top-k": "10"}; None is "not given".
        environment: ATP_<OPTION> variables; os.environ by default.

    Raises:
        SettingsError: a value is malformed, or an ATP_ variable is unknown.
    """
    environment = os.environ if environment is None else environment
    values = _given({*PARSERS}, arguments, environment)
    if "sae" in values and not arguments.get("--sae") and _chooses_sae(arguments):
        del values["sae"]  # the environment's --sae loses to the command line's layer and width

    if "shard" in values and not arguments.get("fetch"):
        _check_shard(arguments, values)
    values["input"] = NO_INPUT if arguments.get("fetch") else _input(arguments, environment)
    values.setdefault("out", _default_out())
    _check_recordable(values["input"], values["out"])
    settings = Settings(**values)
    settings.scoring.check()
    return settings


def merge_sources(
    arguments: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> tuple[list[Path], Path]:
    """Return what `atp merge` is to read and where to write; arguments as of `from_sources`.

    Raises:
        SettingsError: a value is malformed, or an ATP_ variable is unknown.
    """
    return _results_and_out(arguments, os.environ if environment is None else environment)


def features_sources(
    arguments: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> tuple[list[Path], Path, SelectionSettings]:
    """Return what `atp features` is to read, where to write, and what to select.

    Raises:
        SettingsError: a value is malformed, or an ATP_ variable is unknown.
    """
    environment = os.environ if environment is None else environment
    values = _given({*OF_FEATURES}, arguments, environment)
    choice = SelectionSettings(**values, ratio_given="min_log_ratio" in values)
    return *_results_and_out(arguments, environment), choice


def _results_and_out(
    arguments: Mapping[str, Any], environment: Mapping[str, str]
) -> tuple[list[Path], Path]:
    out = _given({"out"}, arguments, environment).get("out", _default_out())
    results = [local_path(name) for name in arguments["RESULT"]]
    _check_recordable(out, *results)
    return results, out


def intervene_sources(
    arguments: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> tuple[Settings, InterventionSettings]:
    """Return what `atp intervene` shares with a run, and what it alone has.

    Raises:
        SettingsError: a value is malformed, an ATP_ variable is unknown, or --features is missing.
    """
    environment = os.environ if environment is None else environment
    own = _given({*OF_INTERVENE} - {"compare"}, arguments, environment)
    if "features" not in own:
        hint = "Name the file that atp features wrote: atp intervene INPUT --features=FILE."
        msg = "--features is missing."
        raise SettingsError(msg, hint)
    shared = _given(OF_RUN, arguments, environment)
    if "sae" in shared and not arguments.get("--sae") and _chooses_sae(arguments):
        del shared["sae"]  # as of a run
    shared["input"] = _input(arguments, environment)
    shared.setdefault("out", _default_out())
    _check_recordable(shared["input"], shared["out"], own["features"])
    given = InterventionSettings(
        **own,
        model_given="model" in shared,
        saes_given=bool({"sae", "hook_layer", "sae_width"} & shared.keys()),
    )
    return Settings(**shared), given


def compare_sources(
    arguments: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> ComparisonSettings:
    """Return what `atp intervene --compare` is to read and where to write.

    Raises:
        SettingsError: a value is malformed, an ATP_ variable is unknown, or an option is given that
            a comparison does not take.
    """
    environment = os.environ if environment is None else environment
    for name in sorted((OF_RUN | {*OF_INTERVENE}) - {"out", "compare"}):
        option = "--" + name.replace("_", "-")
        if arguments.get(option) not in (None, False, []):
            msg = f"{option} is no option of atp intervene --compare."
            raise SettingsError(msg, "It takes two files and --out.")
    out = _given({"out"}, arguments, environment).get("out", _default_out())
    before, after = (local_path(arguments[name]) for name in ("BEFORE", "AFTER"))
    _check_recordable(out, before, after)
    return ComparisonSettings(before, after, out)


def check_options(command: str, arguments: Mapping[str, Any]) -> None:
    """Refuse an option of another command.

    Args:
        command: the one that is given.
        arguments: what docopt found.

    Raises:
        SettingsError: names the option and the commands that take it.
    """
    for option, given in arguments.items():
        if not option.startswith("--"):
            continue  # a command may be called as an option of another: features
        name = option.removeprefix("--").replace("-", "_")
        if name in EVERY_PARSER and given not in (None, False, []):
            takers = [other for other, names in OPTIONS_OF.items() if name in names]
            if command not in takers:
                msg = f"{option} is no option of atp {command}."
                raise SettingsError(msg, f"It is one of atp {', atp '.join(takers)}.")


def _given(
    names: set[str], arguments: Mapping[str, Any], environment: Mapping[str, str]
) -> dict[str, Any]:
    """Return those of the named settings that command line or environment give, parsed."""
    known = {f"ATP_{name.upper()}": name for name in EVERY_PARSER}
    for variable in environment:
        if variable.startswith("ATP_") and variable not in {*known, "ATP_INPUT"}:
            msg = f"the environment variable {variable} is not a setting of atp."
            raise SettingsError(msg, did_you_mean(variable, known))
    values: dict[str, Any] = {}
    for name in (name for name in EVERY_PARSER if name in names):
        option, variable = "--" + name.replace("_", "-"), f"ATP_{name.upper()}"
        given = arguments.get(option)
        if given not in (None, False, []):
            values[name] = (
                given
                if given is True
                else tuple(given)
                if isinstance(given, list)
                else EVERY_PARSER[name](option, given)
            )
        elif environment.get(variable):
            values[name] = EVERY_PARSER[name](variable, environment[variable])
    return values


def _check_shard(arguments: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Refuse a shard where there is none, or whose batches might not be those of the others."""
    if arguments.get("bench"):
        msg = f"atp bench measures the whole input, not the shard {values['shard']} of it."
        raise SettingsError(msg, "Leave out --shard, or ATP_SHARD.")
    if "batch_tokens" not in values:
        msg = "--shard needs --batch-tokens: its default depends on the memory that is free, "
        msg += "and every shard must make the same batches."
        raise SettingsError(msg, "Give all shards the same, as in --batch-tokens=8192.")


def _default_out() -> Path:
    return VOLUME_OUT if VOLUME_INPUT.is_dir() else Path("results/feedback")


def _check_recordable(*paths: Path) -> None:
    """Refuse names that a result file, which is UTF-8, cannot record."""
    for path in paths:
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            msg = f"the name {path} is not UTF-8."
            raise SettingsError(msg, "The result file records it; rename it.") from error
