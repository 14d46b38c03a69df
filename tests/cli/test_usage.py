"""`atp --help` describes every command and every option, in a text that docopt reads."""

from __future__ import annotations

import re

import pytest

from atp.cli.usage import OPTIONS, USAGE
from atp.config.option import ALL_COMMANDS, Group, Option
from atp.errors import ExitCode

EACH_OPTION = pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)


def entry(option: Option) -> str:
    """Return what the text says of an option."""
    (found,) = re.findall(
        rf"^  {option.flag}[= ].*?(?=^  --|^$)", USAGE, flags=re.MULTILINE | re.DOTALL
    )
    return " ".join(found.split())


@EACH_OPTION
def test_an_option_is_described_once_in_its_group(option: Option) -> None:
    heading = f"{option.group.title} (atp {', '.join(option.group.commands)}):\n"
    paragraph = USAGE.partition(heading)[2].partition("\n\n")[0]

    assert re.search(rf"^  {option.flag}[= ]", paragraph, re.MULTILINE)
    flag = f"{option.flag}={option.metavar}" if option.metavar else option.flag
    assert re.fullmatch(rf"{re.escape(flag)} [^ ].+\.", entry(option))


@pytest.mark.parametrize(
    "option",
    [option for option in OPTIONS.values() if isinstance(option.default, (str, int, float, tuple))],
    ids=lambda option: option.name,
)
def test_the_default_in_the_text_is_the_default(option: Option) -> None:
    stated = re.findall(r"Default: (\S+)\.$", entry(option))

    if option.metavar and option.default != ():
        assert [option.check(option.flag, text) for text in stated] == [option.default]
    else:
        assert stated == []


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_every_command_has_a_form_and_a_description(command: str) -> None:
    assert re.search(rf"^  atp {command} .*\[options\]", USAGE, re.MULTILINE)
    assert re.search(rf"^  {command.partition(' ')[0]}  [A-Z]", USAGE, re.MULTILINE)


def test_no_group_is_empty() -> None:
    assert {option.group for option in OPTIONS.values()} == set(Group)


def test_the_text_fits_a_page_of_100_columns() -> None:
    assert max(map(len, USAGE.splitlines())) <= 100
    assert "\N{NO-BREAK SPACE}" not in USAGE


def test_the_text_names_every_exit_code_of_a_user() -> None:
    paragraph = USAGE.partition("Exit codes:")[2]

    for code in set(ExitCode) - {ExitCode.BUG}:
        assert str(int(code)) in paragraph.replace(",", " ").split()
