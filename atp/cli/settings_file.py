"""The file of settings that --config names: TOML, one table a command, or a file that atp wrote.

    [run]
    model = "google/gemma-2-9b-it"
    hook-layer = "9,20,31"
    exact = "all"

check, fetch and bench take the settings of a run: of those that their own table lacks, from [run].
"""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

from atp.cli.usage import options_by_group
from atp.config.option import ALL_COMMANDS, REQUIRED, RUN_COMMANDS
from atp.dataset.result_files import NOT_AS_WRITTEN, metadata_of
from atp.dataset.source import UnreadableError, opened
from atp.errors import SettingsError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from atp.cli.arguments import Given
    from atp.config.option import Option

    Tables = dict[str, dict[str, Any]]
    """Settings by command, and by the name of the option."""

INPUT = "input"  # is an argument on the command line
MAX_BYTES = 1 << 20  # of a TOML file: more is no settings


def read_settings_file(path: Path, command: str, own: Mapping[str, Option]) -> dict[str, Any]:
    """Return the settings of a command that a file gives, checked; or raise an AtpError."""
    tables = _of_result(path, command) if path.suffix == ".json" else _of_toml(path)
    by_name = {option.name: option for option in own.values() if option.name != "config"}
    values: dict[str, Any] = {}
    for table in (["run"] if command in RUN_COMMANDS else []) + [command]:
        for key, value in tables.get(table, {}).items():
            name, place = key.replace("-", "_"), f"{path}: [{table}] {key}"
            if name == INPUT:
                values[name] = str(value)
            elif name in by_name:
                if not _is_unset(by_name[name], value):
                    values[name] = _checked(by_name[name], place, value)
            elif table == command:
                msg = f"{place} is no option of atp {command}."
                near = did_you_mean(key, [name.replace("_", "-") for name in by_name])
                raise SettingsError(msg, near)
    return values


def _of_toml(path: Path) -> Tables:
    with opened(path) as file:
        data = file.read(MAX_BYTES)
    try:
        content = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"{path} is not valid TOML: {error}."
        raise SettingsError(msg, "See atp config --help.") from error
    for name, table in content.items():
        if not isinstance(table, dict):
            msg = f"{path}: {name} stands in no table."
            raise SettingsError(msg, f"Write it under the name of its command: [run] {name} = ...")
        if name not in ALL_COMMANDS:
            msg = f"{path}: [{name}] is no command of atp."
            raise SettingsError(msg, did_you_mean(name, ALL_COMMANDS))
    return content


def _of_result(path: Path, command: str) -> Tables:
    """Return the settings in a file that atp wrote: a result, a features file or a report."""
    try:
        written = metadata_of(path)
        if "selection" in written:
            of_command, settings = "features", written["selection"]
        elif "features" in written:
            of_command = "intervene"
            settings = {**written["settings"], INPUT: written["input"]["path"]}
        else:
            of_command, settings = "run", dict(written["settings"])
    except (*NOT_AS_WRITTEN, UnreadableError) as error:
        msg = f"--config={path} is no file that atp wrote."
        raise SettingsError(msg, "Name a result, or a TOML file of settings (*.toml).") from error
    if command != of_command and not (of_command == "run" and command in RUN_COMMANDS):
        msg = f"--config={path} has the settings of atp {of_command}, not of atp {command}."
        raise SettingsError(msg, "Name a file of that command.")
    return {of_command: settings}


def _is_unset(option: Option, value: Any) -> bool:  # noqa: ANN401  (any JSON value)
    """Return whether a file that atp wrote says that an option had no value."""
    return value == [] or (value is None and option.default is None)


def _checked(option: Option, place: str, value: Any) -> Any:  # noqa: ANN401  (any JSON value)
    """Check a value as if it was written on the command line."""
    if isinstance(value, bool) and getattr(option.check, "synonyms", None):
        return option.check(place, str(value))
    if isinstance(value, bool) != (not option.metavar):
        expected = "a value" if option.metavar else "true or false"
        msg = f"{place} must be {expected}, not {json.dumps(value)}."
        raise SettingsError(msg)
    if isinstance(value, bool):
        return value
    if isinstance(value, list):
        if option.repeatable:
            return tuple(map(str, value))
        value = ",".join(map(str, value))
    return option.check(place, "none" if value is None else str(value))


def as_toml(given: Given, out: Path) -> str:
    """Return the settings in force as a table of TOML; those that nobody gave as comments."""
    lines = [f"[{given.command}]"]
    if "INPUT" in given.arguments:
        name = given.arguments["INPUT"]
        lines.append(f"# {INPUT} is not set" if name is None else _line(INPUT, name))
    for options in options_by_group(given.command).values():
        for option in options:
            if option.name == "config":  # its settings are among the others
                continue
            key = option.flag.removeprefix("--")
            default = out if option.name == "out" else option.default
            if option.name in given.options:
                lines.append(_line(key, given.options[option.name]))
            elif default in (None, (), REQUIRED):
                lines.append(f"# {key} is not set")
            else:
                lines.append(f"# {_line(key, default)}")
    return "\n".join(lines)


def _line(key: str, value: Any) -> str:  # noqa: ANN401  (of any option)
    # A text, number, truth value or list of JSON is the same in TOML.
    text = json.dumps("none" if value is None else value, ensure_ascii=False, default=str)
    return f"{key} = {text}"
