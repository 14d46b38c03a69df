"""The help texts describe every command, and of each the options that it takes, and no other."""

from __future__ import annotations

import re

import pytest
from docopt import docopt

from atp.cli.commands import COMMANDS
from atp.cli.usage import OPTIONS, OVERVIEW, help_text
from atp.config.option import ALL_COMMANDS, Group, Option
from atp.errors import ExitCode

EACH_OPTION = pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
EACH_COMMAND = pytest.mark.parametrize("name", COMMANDS)


def entry(option: Option, text: str) -> str:
    """Return what a help text says of an option."""
    (found,) = re.findall(
        rf"^  (?:-[a-z] )?({option.flag}[= ].*?)(?=^  -|^$)", text, flags=re.MULTILINE | re.DOTALL
    )
    return " ".join(found.split())


@EACH_OPTION
def test_an_option_is_described_once_in_its_group_by_the_commands_that_take_it(
    option: Option,
) -> None:
    for name in COMMANDS:
        text = help_text(name)
        if name not in option.group.commands:
            assert not re.search(rf"^  (-[a-z] )?{option.flag}[= ]", text, re.MULTILINE)
            continue
        paragraph = text.partition(f"\n{option.group.title}:\n")[2].partition("\n\n")[0]
        assert re.search(rf"^  (-[a-z] )?{option.flag}[= ]", paragraph, re.MULTILINE)
        flag = f"{option.flag}={option.metavar}" if option.metavar else option.flag
        assert re.fullmatch(rf"{re.escape(flag)} [^ ].+\.", entry(option, text))


@pytest.mark.parametrize(
    "option",
    [option for option in OPTIONS.values() if isinstance(option.default, (str, int, float, tuple))],
    ids=lambda option: option.name,
)
def test_the_default_in_the_text_is_the_default(option: Option) -> None:
    stated = re.findall(r"Default: (\S+)\.$", entry(option, help_text(option.group.commands[0])))

    if option.metavar and option.default != ():
        assert [option.check(option.flag, text) for text in stated] == [option.default]
    else:
        assert stated == []


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_every_command_has_a_form_and_a_line_in_the_overview(command: str) -> None:
    name = command.partition(" ")[0]

    assert re.search(rf"^  atp {command} .*\[options\]", help_text(name), re.MULTILINE)
    assert re.search(rf"^  {name} +[a-z].*[^.]$", OVERVIEW, re.MULTILINE)


@EACH_COMMAND
def test_the_text_of_a_command_has_examples_that_it_takes(name: str) -> None:
    examples = re.findall(rf"^  (atp {name} [^#>\n]*)", help_text(name), re.MULTILINE)
    forms = len(COMMANDS[name].forms)

    for example in examples[forms:]:
        words = example.split()[1:]
        docopt(help_text(name), words, default_help=False, options_first=name == "config")
    assert len(COMMANDS["run"].examples) == 3


@EACH_COMMAND
@pytest.mark.parametrize("width", [80, 100])
def test_a_text_fits_its_width_and_docopt_reads_it(name: str, width: int) -> None:
    text = help_text(name, width)

    form = COMMANDS[name].forms[0].replace("[options]", "").replace("[--sae=SPEC]...", "")
    words = re.sub(r"[\[\].]", "", form).split()
    assert docopt(text, [name, *words], default_help=False)[name]
    prose = [line for line in text.splitlines() if not line.startswith("  atp ")]
    assert max(map(len, prose)) <= width
    assert "\N{NO-BREAK SPACE}" not in text


def test_no_group_is_empty() -> None:
    assert {option.group for option in OPTIONS.values()} == set(Group)


def test_the_overview_fits_a_terminal_of_80_by_40() -> None:
    assert max(map(len, OVERVIEW.splitlines())) <= 80
    assert len(OVERVIEW.splitlines()) < 40


def test_the_overview_names_every_exit_code_of_a_user() -> None:
    paragraph = OVERVIEW.partition("Exit codes:")[2]

    for code in set(ExitCode) - {ExitCode.BUG}:
        assert str(int(code)) in paragraph.replace(",", " ").split()
