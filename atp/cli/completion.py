"""The scripts by which bash, zsh and fish complete commands, options and their values.

They are made of the same declarations as the help texts.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from atp.cli.commands import COMMANDS
from atp.cli.usage import OPTIONS, options_by_group
from atp.errors import SettingsError, did_you_mean
from atp.model.dictionaries.catalogue import counts_by_model

if TYPE_CHECKING:
    from collections.abc import Iterable

    from atp.config.option import Option

SHELLS = ("bash", "zsh", "fish")

# Bash splits a word at "=", so that the option may stand one or two words before its value.
BASH = """\
_atp() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} option=${{COMP_WORDS[COMP_CWORD-1]}} options=
    if [[ $word == = ]]; then
        word=
    elif [[ $option == = ]]; then
        option=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W '{commands}' -- "$word")
        return
    fi
    case $option in
{values}
    esac
    if [[ ${{COMP_WORDS[1]}} == completion ]]; then
        mapfile -t COMPREPLY < <(compgen -W '{shells}' -- "$word")
        return
    elif [[ ${{COMP_WORDS[1]}} == saes && $word != -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '{models}' -- "$word")
        return
    elif [[ ${{COMP_WORDS[1]}} == config && $COMP_CWORD == 2 ]]; then
        mapfile -t COMPREPLY < <(compgen -W '{commands}' -- "$word")
        return
    fi
    case ${{COMP_WORDS[1]}} in
{options}
    esac
    if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
        if [[ ${{COMPREPLY[0]}} == *= ]]; then compopt -o nospace; fi
    fi
}}
complete -o default -F _atp atp
"""

ZSH = """\
#compdef atp
_atp() {{
    local -a commands=(
{commands}
    )
    if ((CURRENT == 2)); then
        _describe command commands
        return
    fi
    local command=${{words[2]}}
    shift words
    ((CURRENT--))
    case $command in
{options}
    esac
}}
compdef _atp atp
"""


def completion(shell: str) -> str:
    """Return the script for a shell; SettingsError for a shell that is not known."""
    scripts = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    if shell not in scripts:
        msg = f"there is no completion for {shell!r}."
        raise SettingsError(msg, did_you_mean(shell, SHELLS) or f"Shells: {', '.join(SHELLS)}.")
    return scripts[shell]()


def _words(command: str) -> Iterable[str]:
    """Return the words that a command takes as its argument; none if it takes files."""
    return {"completion": SHELLS, "config": COMMANDS, "saes": counts_by_model()}.get(command, ())


def _options(command: str) -> list[Option]:
    return [option for options in options_by_group(command).values() for option in options]


def _bash() -> str:
    values = [
        f"    {option.flag}) mapfile -t COMPREPLY < <(compgen -W '{' '.join(option.choices)}' -- "
        '"$word"); return ;;'
        for option in OPTIONS.values()
        if option.choices
    ]
    options = [
        f"    {name}) options='{' '.join(map(_with_equals, _options(name)))} --help' ;;"
        for name in COMMANDS
    ]
    return BASH.format(
        commands=" ".join(COMMANDS),
        shells=" ".join(SHELLS),
        models=" ".join(counts_by_model()),
        values="\n".join(values),
        options="\n".join(options),
    )


def _with_equals(option: Option) -> str:
    return f"{option.flag}=" if option.metavar else option.flag


def _zsh() -> str:
    commands = [f"        '{name}:{command.summary}'" for name, command in COMMANDS.items()]
    options = []
    for name in COMMANDS:
        specs = [_zsh_option(option) for option in _options(name)]
        arguments = " ".join([*specs, "'--help[Show the help text]'", _zsh_arguments(name)])
        options.append(f"    {name}) _arguments {arguments} ;;")
    return ZSH.format(commands="\n".join(commands), options="\n".join(options))


def _zsh_arguments(command: str) -> str:
    """Return what may stand beside the options: words for some commands, files for the others."""
    words = " ".join(_words(command))
    return f"'1: :({words})'" if words else "'*:file:_files'"


def _zsh_option(option: Option) -> str:
    text = _short(option).replace("'", "'\\''").replace("[", "\\[").replace("]", "\\]")
    repeat = "*" if option.repeatable else ""
    value = (
        f":{option.metavar}:({' '.join(option.choices)})"
        if option.choices
        else (f":{option.metavar}:_files" if option.metavar else "")
    )
    return f"'{repeat}{_with_equals(option)}[{text}]{value}'"


def _fish() -> str:
    lines = ["complete -c atp -f"]
    for name, command in COMMANDS.items():
        lines.append(
            f"complete -c atp -n __fish_use_subcommand -a {name} -d {_quoted(command.summary)}"
        )
        seen = f"'__fish_seen_subcommand_from {name}'"
        words = " ".join(_words(name))
        rest = f"-a '{words}'" if words else "-F"
        lines.append(f"complete -c atp -n {seen} {rest}")
        for option in _options(name):
            value = (
                f" -x -a '{' '.join(option.choices)}'"
                if option.choices
                else (" -r" if option.metavar else "")
            )
            letter = f" -s {option.letter.removeprefix('-')}" if option.letter else ""
            flag = option.flag.removeprefix("--")
            lines.append(
                f"complete -c atp -n {seen} -l {flag}{letter}{value} -d {_quoted(_short(option))}"
            )
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _short(option: Option) -> str:
    """Return the first sentence of the help text, shortened to a line."""
    first = option.help.partition(". ")[0].removesuffix(".").replace(":", " -")
    return textwrap.shorten(first, 60, placeholder=" ...")
