"""Reads and checks a command line and the environment."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from docopt import DocoptExit, docopt

from atp.cli.usage import OPTIONS, USAGE
from atp.config.option import ALL_COMMANDS, options_of
from atp.errors import SettingsError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BY_DOCOPT = {"--", "--compare", "--help", "--version"}  # in the usage; no options of a command
VARIABLES = {"INPUT", *(option.variable.removeprefix("ATP_") for option in OPTIONS.values())}
KUBERNETES = re.compile(r"SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_[A-Z]+(_PROTO|_PORT|_ADDR)?)?")
"""The variables that Kubernetes sets in every pod beside a Service called atp, without ATP_."""


@dataclass(frozen=True)
class Given:
    """A command, its arguments and its options."""

    command: str
    arguments: Mapping[str, Any]  # as docopt returns them
    options: Mapping[str, Any]  # checked, by name; the command line wins over the environment

    def values(self, settings: type) -> dict[str, Any]:
        """Return the given values of a settings class, by field."""
        return {
            field: self.options[option.name]
            for field, option in options_of(settings).items()
            if option.name in self.options
        }


def read(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Given:
    """Read a command line and the environment, by default the process's; or raise SettingsError."""
    environment = os.environ if environment is None else environment
    commands = [word for word in argv if word in ALL_COMMANDS]
    if not commands:
        msg = f"{argv[0]!r} is not a command." if argv else "no command is given."
        raise SettingsError(msg, "Write atp run INPUT; atp --help describes all commands.")
    flags = [word.partition("=")[0] for word in argv if word.startswith("--")]
    _check_options(argv, flags)
    try:
        arguments = docopt(USAGE, list(argv), default_help=False)
        command = next(word for word in commands if arguments[word])
    except DocoptExit:
        arguments, command = None, commands[0]
    if command == "intervene" and "--compare" in flags:
        command = "intervene --compare"
    for option in (OPTIONS[flag] for flag in flags if flag in OPTIONS):
        if command not in option.group.commands:
            msg = f"{option.flag} is no option of atp {command}."
            raise SettingsError(msg, f"It is one of atp {', atp '.join(option.group.commands)}.")
    if arguments is None:
        forms = re.findall(rf"^  (atp {commands[0]} .*)", USAGE, re.MULTILINE)
        msg = f"{' '.join(argv)!r} does not fit the usage: {', or '.join(forms)}."
        raise SettingsError(msg, "See atp --help.")
    for variable in unknown_variables(environment):
        import structlog  # atp --help answers without it

        structlog.get_logger().warning("settings.unknown", variable=variable)
    arguments["INPUT"] = arguments["INPUT"] or environment.get("ATP_INPUT")
    return Given(command, arguments, _values(command, arguments, environment))


def _check_options(argv: Sequence[str], flags: Sequence[str]) -> None:
    """Refuse unknown and abbreviated options, and values that are missing or too many."""
    for word, following in zip_longest(argv, argv[1:], fillvalue="--"):
        flag, has_value, _ = word.partition("=")
        if not flag.startswith("--") or flag in BY_DOCOPT:
            continue
        option = OPTIONS.get(flag)
        if option is None:
            msg = f"there is no option {flag}."
            longer = [known for known in OPTIONS if known.startswith(flag)]
            hint = f"Write {' or '.join(longer)}." if longer else did_you_mean(flag, OPTIONS)
            raise SettingsError(msg, hint)
        if has_value and not option.metavar:
            msg = f"{flag} takes no value."
            raise SettingsError(msg)
        if option.metavar and not has_value and following.startswith("--"):
            msg = f"{flag} needs a value."
            raise SettingsError(msg, f"Write {flag}=VALUE.")
        if flags.count(flag) > 1 and not option.repeatable:
            msg = f"{flag} is given twice."
            raise SettingsError(msg)


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


def _values(
    command: str, arguments: Mapping[str, Any], environment: Mapping[str, str]
) -> dict[str, Any]:
    values = {}
    for option in OPTIONS.values():
        given, text = arguments[option.flag], environment.get(option.variable)
        if isinstance(given, str):
            values[option.name] = option.check(option.flag, given)
        elif given:
            values[option.name] = tuple(given) if option.repeatable else True
        elif text and command in option.group.commands:
            values[option.name] = option.check(option.variable, text)
    return values
