"""Every option is read from the command line and from the environment; a fault is one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from atp.cli.arguments import Given, read, unknown_variables
from atp.cli.usage import OPTIONS
from atp.config.option import ALL_COMMANDS, Option
from atp.errors import SettingsError

WITHOUT_FILE = [option for option in OPTIONS.values() if option.name != "config"]
"""--config names a file, which is read at once: test_settings_file.py has its tests."""
EACH_OPTION = pytest.mark.parametrize("option", WITHOUT_FILE, ids=lambda option: option.name)
EACH_VALUE, EACH_SWITCH = (
    pytest.mark.parametrize("option", options, ids=lambda option: option.name)
    for options in (
        [option for option in WITHOUT_FILE if option.metavar],
        [option for option in WITHOUT_FILE if not option.metavar],
    )
)
EACH_COMMAND = pytest.mark.parametrize("command", ALL_COMMANDS)
TEXTS = (
    "lm-eval",
    "ray",
    "auto",
    "7",
    "sdpa",
    "0.5",
    "200",
    "9,20",
    "131k",
    "1/4",
    "ig",
    "tail",
    "base",
    "sequence",
    "flagged",
    "json",
    "bfloat16",
    "medium",
    "resid",
)
"""Values of the options: for each, one of them is not its default."""


def words(command: str) -> list[str]:
    """Return a command with the arguments that it needs."""
    arguments = {"intervene --compare": ["a", "b"], "fetch": []}
    return [*command.split(), *arguments.get(command, ["a"])]


def given(option: Option, *more: str, **environment: str) -> Given:
    """Return what the first command that takes an option reads."""
    return read([*words(option.group.commands[0]), *more], environment)


def refused(*argv: str, **environment: str) -> str:
    """Return the one line by which a command line is refused."""
    with pytest.raises(SettingsError) as caught:
        read(argv, environment)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    return line


def example(option: Option) -> str:
    """Return a text that gives another value than the default."""
    for text in (*TEXTS, "cuda:1"):
        try:
            if option.check(option.flag, text) != option.default:
                return text
        except SettingsError:
            continue
    pytest.fail(f"no text is a value of {option.flag}")


def written(option: Option) -> str:
    """Return an option as a word of a command line."""
    return f"{option.flag}={example(option)}" if option.metavar else option.flag


# --- each option


@EACH_VALUE
def test_an_option_is_read_from_the_command_line_and_from_the_environment(option: Option) -> None:
    value = option.check(option.flag, example(option))

    assert given(option, option.flag, example(option)).options == {option.name: value}
    assert given(option, **{option.variable: example(option)}).options == {option.name: value}


@EACH_SWITCH
def test_a_switch_is_off_unless_the_command_line_or_the_environment_gives_it(
    option: Option,
) -> None:
    assert option.default is False
    assert given(option, option.flag).options == {option.name: True}
    assert given(option, **{option.variable: "1"}).options == {option.name: True}
    assert given(option, **{option.variable: "0"}).options == {option.name: False}


@EACH_OPTION
def test_the_command_line_wins(option: Option) -> None:
    value = option.check(option.flag, example(option)) if option.metavar else True

    read_in = given(option, written(option), **{option.variable: "no value of it"})

    assert read_in.options == {option.name: value}


@EACH_COMMAND
def test_a_command_takes_its_options_and_says_whose_another_is(command: str) -> None:
    own = [option for option in WITHOUT_FILE if command in option.group.commands]

    found = read([*words(command), *map(written, own)], {})

    assert found.command == command
    assert found.options.keys() == {option.name for option in own}
    others = {
        option.group: option for option in WITHOUT_FILE if command not in option.group.commands
    }
    for group, option in others.items():
        line = refused(*words(command), written(option))
        assert line.startswith(f"{option.flag} is no option of atp {command}. It is one of atp ")
        assert line.endswith(f"atp {group.commands[-1]}.")


def test_general_options_have_short_names() -> None:
    assert read(["run", "a", "-q"], {}).options == {"quiet": True}
    assert read(["run", "a", "-v"], {}).options == {"verbose": True}


@EACH_COMMAND
def test_empty_variables_and_those_of_other_commands_are_left_alone(command: str) -> None:
    environment = {
        option.variable: "" if command in option.group.commands else "no value of it"
        for option in OPTIONS.values()
    }

    assert read(words(command), environment).options == {}


@EACH_VALUE
def test_a_bad_value_is_refused_by_the_name_that_the_user_wrote(option: Option) -> None:
    command = words(option.group.commands[0])

    if not option.repeatable:
        assert refused(*command, f"{option.flag}= ").startswith(f"{option.flag} must be ")
        line = refused(*command, **{option.variable: " "})
        assert line.startswith(f"{option.variable} must be ")
    assert refused(*command, option.flag).startswith(f"{option.flag} needs a value.")
    assert refused(*command, option.flag, "--out=o").startswith(f"{option.flag} needs a value.")


def test_exact_says_which_features_and_its_old_values_still_mean_all_and_none() -> None:
    for words in (["--exact"], ["--exact", "--top-k=3"], ["--exact=yess"], ["--exact=true.json"]):
        assert "--exact=all" in refused("run", "in.json", *words)
    assert "--exact=all" in refused("run", "--exact", "in.json")
    for text, meaning in (("1", "all"), ("true", "all"), ("0", "none"), ("flagged", "flagged")):
        assert read(["run", "in.json"], {"ATP_EXACT": text}).options["exact"] == meaning


@EACH_SWITCH
def test_a_switch_takes_no_value(option: Option) -> None:
    command = words(option.group.commands[0])

    assert refused(*command, f"{option.flag}=1") == f"{option.flag} takes no value."
    assert option.variable in refused(*command, **{option.variable: "maybe"})


@EACH_OPTION
def test_an_option_is_given_once_or_collected(option: Option) -> None:
    command = [*words(option.group.commands[0]), written(option), written(option)]

    if option.repeatable:
        assert read(command, {}).options == {option.name: (example(option),) * 2}
    else:
        assert refused(*command) == f"{option.flag} is given twice."


@EACH_OPTION
def test_an_abbreviation_is_refused_and_names_the_option(option: Option) -> None:
    for short in (option.flag[:end] for end in range(3, len(option.flag))):
        if short not in OPTIONS:
            command = option.group.commands[0]
            line = refused(*words(command), f"{short}=3")
            assert line.startswith(f"atp {command} has no option {short}. Write ")
            assert option.flag in line.replace(".", " ").split()


@EACH_OPTION
def test_a_misspelt_variable_is_refused_and_names_the_option(option: Option) -> None:
    with pytest.raises(SettingsError, match=f"{option.variable}S is not a setting") as caught:
        unknown_variables({option.variable + "S": "1"})

    assert option.variable in re.findall(r"\w+", caught.value.hint)


# --- the rest of a command line


def test_a_list_of_saes_is_words_in_the_environment() -> None:
    for text, saes in {
        " a:b  folder\n": ("a:b", "folder"),
        "a:layer_* ./s/[ab]?": ("a:layer_*", "./s/[ab]?"),
    }.items():
        assert read(["run", "a"], {"ATP_SAE": text}).options == {"sae": saes}
    assert read(["run", "a", "--sae=a folder"], {}).options == {"sae": ("a folder",)}


def test_a_number_may_be_negative() -> None:
    assert read(["features", "a", "--min-score", "-0.25"], {}).options == {"min_score": -0.25}


def test_options_may_stand_anywhere_after_the_command() -> None:
    found = read(["run", "--out", "features", "--top-k=3", "a"], {})

    assert (found.command, found.arguments["INPUT"]) == ("run", "a")
    assert found.options == {"out": Path("features"), "top_k": 3}


def test_the_input_may_come_from_the_environment_and_the_command_line_wins() -> None:
    assert read(["run"], {"ATP_INPUT": "b"}).arguments["INPUT"] == "b"
    assert read(["run", "a"], {"ATP_INPUT": "b"}).arguments["INPUT"] == "a"


@pytest.mark.parametrize(
    ("argv", "form"),
    [
        (["fetch", "a"], "atp fetch [options]"),
        (["merge"], "atp merge RESULT... [options]"),
        (["run", "a", "b"], "atp run [INPUT] [options]"),
        (["run", "--", "a"], "atp run [INPUT] [options]"),
        (["intervene", "--compare", "a"], "or atp intervene --compare BEFORE AFTER [options]."),
        (["run", "a", "--compare"], "atp run [INPUT] [options]"),
        (["run", "a", "--version"], "atp run [INPUT] [options]"),
    ],
    ids=" ".join,
)
def test_too_few_or_too_many_arguments_are_told_with_the_form(argv: list[str], form: str) -> None:
    line = refused(*argv)

    assert line.startswith(f"{' '.join(argv)!r} does not fit the usage: atp {argv[0]} ")
    assert form in line


# --- variables that are no settings


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATP_TOP_K", "11")

    assert read(["run", "a"]).options == {"top_k": 11}


def test_an_unknown_variable_is_told() -> None:
    environment = {"ATP_HOME": "/opt/atp", "HOME": "x", "ATPX": "1", "MY_ATP_TOP_K": "x"}

    assert read(["run", "a"], environment).unknown_variables == ["ATP_HOME"]


def test_what_kubernetes_says_of_a_service_called_atp_is_ignored() -> None:
    address = dict.fromkeys(
        [
            *("ATP_SERVICE_HOST", "ATP_SERVICE_PORT", "ATP_SERVICE_PORT_HTTP", "ATP_PORT"),
            *("ATP_PORT_80_TCP", "ATP_PORT_80_TCP_PROTO", "ATP_PORT_80_TCP_PORT"),
            "ATP_PORT_80_TCP_ADDR",
        ],
        "tcp://10.0.0.11:80",
    )

    assert read(["run", "a"], address).options == {}
    assert read(["run", "a"], address).unknown_variables == []
