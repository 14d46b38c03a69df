"""Reads and checks a command line, the environment and a file of settings."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from docopt import DocoptExit, docopt

from atp.cli.commands import COMMANDS
from atp.cli.usage import OPTIONS, OVERVIEW, help_text
from atp.config.general import GeneralSettings
from atp.config.option import options_of
from atp.config.sae_choice import CHOICES
from atp.errors import SettingsError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from atp.config.option import Option

BY_DOCOPT = {"--", "--compare", "--help", "--version"}  # in the usage; no options of a command
VARIABLES = {"INPUT", *(option.variable.removeprefix("ATP_") for option in OPTIONS.values())}
KUBERNETES = re.compile(r"SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_[A-Z]+(_PROTO|_PORT|_ADDR)?)?")
"""The variables that Kubernetes sets in every pod beside a Service called atp, without ATP_."""


@dataclass(frozen=True)
class Given:
    """A command, its arguments and its options."""

    command: str
    arguments: Mapping[str, Any]  # as docopt returns them
    options: Mapping[str, Any]  # checked, by name, from wherever they are given
    words: Sequence[str] = ()  # of the command line, after the command
    unknown_variables: Sequence[str] = ()  # that begin with ATP_ and are no settings

    def values(self, settings: type) -> dict[str, Any]:
        """Return the given values of a settings class, by field."""
        return {
            field: self.options[option.name]
            for field, option in options_of(settings).items()
            if option.name in self.options
        }

    @property
    def general(self) -> GeneralSettings:
        """The settings that every command takes."""
        return GeneralSettings(**self.values(GeneralSettings))


def read(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Given:
    """Read a command line and the environment, by default the process's; or raise SettingsError.

    An option is taken from the first place that gives it: the command line, the environment, the
    file that --config names.
    """
    environment = os.environ if environment is None else environment
    name = _command(argv)
    words = argv[1:]
    flags = [word.partition("=")[0] for word in words if word.startswith("--")]
    command = "intervene --compare" if name == "intervene" and "--compare" in flags else name
    own = {} if name == "config" else _options_of(command)
    if name != "config":  # its arguments are the options of another command
        _check_options(command, own, words)
    try:
        text, first = help_text(name), name == "config"
        found = docopt(text, [name, *words], default_help=False, options_first=first)
    except DocoptExit as error:
        forms = ", or ".join(f"atp {name} {form}" for form in COMMANDS[name].forms)
        msg = f"{' '.join(argv)!r} does not fit the usage: {forms}."
        raise SettingsError(msg, f"See atp {name} --help.") from error
    arguments: dict[str, Any] = dict(found)
    on_command_line = _on_command_line(arguments, own)
    places = [on_command_line, _in_environment(environment, own, but=on_command_line)]
    config = next((place["config"] for place in places if "config" in place), None)
    if config is not None:
        from atp.cli.settings_file import read_settings_file

        places.append(read_settings_file(config, command, own))
    in_file = places[-1].pop("input", None)
    if "INPUT" in arguments:
        arguments["INPUT"] = arguments["INPUT"] or environment.get("ATP_INPUT") or in_file
    return Given(command, arguments, _merged(places), words, unknown_variables(environment))


def _command(argv: Sequence[str]) -> str:
    """Return the command that a command line begins with."""
    try:
        found = docopt(OVERVIEW, list(argv), default_help=False, options_first=True)
        name = found["COMMAND"]
    except DocoptExit:
        name = None
    if name in COMMANDS:
        return str(name)
    if not argv:
        msg = "no command is given."
        raise SettingsError(msg, "Write atp run INPUT; atp --help lists the commands.")
    if named := [word for word in argv[1:] if word in COMMANDS] if argv[0] in OPTIONS else []:
        msg = f"{argv[0]} stands before the command."
        raise SettingsError(msg, f"Write it after the command: atp {named[0]} {argv[0]}.")
    msg = f"{argv[0]!r} is not a command."
    near = get_close_matches(argv[0].lower(), COMMANDS, n=1)
    hint = f"Write atp {near[0]}." if near else f"Commands: {', '.join(COMMANDS)}; see atp --help."
    if argv[0].endswith((".json", ".jsonl")):
        hint = f"Write atp run {argv[0]}."
    raise SettingsError(msg, hint)


def _options_of(command: str) -> dict[str, Option]:
    """Return the options that a command takes, by flag."""
    return {flag: option for flag, option in OPTIONS.items() if command in option.group.commands}


def _check_options(command: str, own: Mapping[str, Option], words: Sequence[str]) -> None:
    """Refuse unknown and abbreviated options, and values that are missing or too many."""
    for word, following in zip_longest(words, words[1:], fillvalue="--"):
        flag, has_value, _ = word.partition("=")
        if not flag.startswith("--") or flag in BY_DOCOPT:
            continue
        option = own.get(flag)
        if option is None:
            raise _unknown(command, own, flag)
        if has_value and not option.metavar:
            msg = f"{flag} takes no value."
            raise SettingsError(msg)
        if option.metavar and not has_value and following.startswith("--"):
            msg = f"{flag} needs a value."
            raise SettingsError(
                msg, f"Write {flag}={option.choices[-1] if option.choices else 'VALUE'}."
            )
        given = [each.partition("=")[0] for each in words]
        if given.count(flag) > 1 and not option.repeatable:
            msg = f"{flag} is given twice."
            raise SettingsError(msg)


def _unknown(command: str, own: Mapping[str, Option], flag: str) -> SettingsError:
    """Return the error of an option that a command does not take."""
    if flag in OPTIONS:
        msg = f"{flag} is no option of atp {command}."
        of_commands = ", ".join(f"atp {other}" for other in OPTIONS[flag].group.commands)
        return SettingsError(msg, f"It is one of {of_commands}.")
    msg = f"atp {command} has no option {flag}."
    longer = [known for known in own if known.startswith(flag)]
    hint = f"Write {' or '.join(longer)}." if longer else did_you_mean(flag, own)
    return SettingsError(msg, hint or f"See atp {command.split(maxsplit=1)[0]} --help.")


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return the ATP_ variables that are no settings; raise SettingsError for a misspelt one."""
    unknown = []
    for variable in environment:
        name = variable.removeprefix("ATP_")
        if name == variable or name in VARIABLES or KUBERNETES.fullmatch(name):
            continue
        if near := get_close_matches(name, VARIABLES, cutoff=0.8):
            msg = f"the environment variable {variable} is not a setting of atp."
            raise SettingsError(msg, f"Near: {', '.join(f'ATP_{known}' for known in near)}.")
        unknown.append(variable)
    return unknown


def _on_command_line(arguments: Mapping[str, Any], own: Mapping[str, Option]) -> dict[str, Any]:
    values = {}
    for flag, option in own.items():
        given = arguments[flag]
        if isinstance(given, str):
            values[option.name] = option.check(flag, given)
        elif given:
            values[option.name] = tuple(given) if option.repeatable else True
    return values


def _in_environment(
    environment: Mapping[str, str], own: Mapping[str, Option], but: Collection[str]
) -> dict[str, Any]:
    return {
        option.name: option.check(option.variable, text)
        for option in own.values()
        if option.name not in but and (text := environment.get(option.variable))
    }


def _merged(places: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return each option from the first place that gives it."""
    merged: dict[str, Any] = {}
    for place in places:
        # A layer, width, L0 or site overrules the SAEs of a later place: those would hide them.
        overruled = {"sae"} if merged.keys() & {*CHOICES} else set()
        new = {name: value for name, value in place.items() if name not in overruled}
        merged = new | merged
    return merged
