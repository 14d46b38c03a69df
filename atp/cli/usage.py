"""The help texts of atp and of each command. docopt reads the command lines by them."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from atp.cli.commands import COMMANDS
from atp.config.general import GeneralSettings
from atp.config.intervention import InterventionSettings
from atp.config.method import Method
from atp.config.option import REQUIRED, Group, options_of
from atp.config.report import ReportSettings
from atp.config.run import RunSettings
from atp.config.selection import SelectionSettings
from atp.config.settings import Settings

if TYPE_CHECKING:
    from atp.config.option import Option

OPTIONS = {
    option.flag: option
    for settings in (
        *(Settings, Method, SelectionSettings, InterventionSettings),
        *(RunSettings, ReportSettings, GeneralSettings),
    )
    for option in options_of(settings).values()
}
WIDTH, INDENT = 100, 28

_SUMMARIES = "\n".join(f"  {name:<12}{command.summary}" for name, command in COMMANDS.items())
OVERVIEW = f"""atp: which features of a language model make it sycophantic

Usage:
  atp COMMAND [ARGUMENT]...
  atp COMMAND --help
  atp --help | --version

Commands:
{_SUMMARIES}

A study is four commands; each ends with what to type next:
  atp run feedback.json
  atp features
  atp intervene
  atp report

Every option can come from the environment, --top-k=10 as ATP_TOP_K=10, and from
a file: see atp config --help. Result paths go to standard output, the log to
standard error.

Exit codes: 0 every pair has a result (skipped pairs included), or the command
is done; 1 some pairs carry an error; 2 the usage, the settings, the input or
the results to read are at fault, or no feature is selected; 3 the model, an SAE
or the device cannot be had, or (check, fetch) memory or disk do not suffice; 74
results or the hub cache cannot be written; 75 another run holds the output
folder; 130, 143 stopped by a signal; 70 a fault of atp itself.
"""


def options_by_group(command: str) -> dict[Group, list[Option]]:
    """Return the options that a command takes, in the order of its help text."""
    return {
        group: [option for option in OPTIONS.values() if option.group is group]
        for group in Group
        if command in group.commands
    }


def help_text(name: str, width: int = WIDTH) -> str:
    """Return the text of `atp NAME --help`, with lines of at most `width` columns."""
    command = COMMANDS[name]
    forms = "\n".join(f"  atp {name} {form}" for form in command.forms)
    examples = "\n".join(f"  {example}" for example in command.examples)
    parts = [
        f"atp {name}: {command.summary}",
        f"Usage:\n{forms}",
        "\n".join(_wrapped("", command.text, 0, width)),
        f"Examples:\n{examples}",
    ]
    for group, options in options_by_group(name).items():
        lines = [f"{group.title}:"]
        for option in options:
            flag = " ".join(filter(None, [option.letter, option.flag]))
            flag += f"={option.metavar}" if option.metavar else ""
            text = f"{option.help} {_default(option)}"
            lines += _wrapped(f"  {flag}".ljust(INDENT), text, INDENT, width)
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _default(option: Option) -> str:
    default = option.default
    if default in (REQUIRED, None, ()) or default is False:
        return ""  # the help text describes it
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    if isinstance(default, float):
        default = f"{default:g}".replace("e-0", "e-")
    return f"Default: {default}."


def _wrapped(title: str, text: str, indent: int, width: int) -> list[str]:
    """Return lines of which none begins with an option: docopt would take it for a description."""
    glued = " ".join(text.split()).replace(" -", "\N{NO-BREAK SPACE}-")
    lines = textwrap.wrap(
        glued,
        width,
        initial_indent=title,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]
