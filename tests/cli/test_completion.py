"""The scripts complete commands, options and values, in the shells themselves."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from atp.cli.commands import COMMANDS
from atp.cli.completion import completion
from atp.cli.usage import options_by_group
from atp.errors import SettingsError

CASES: list[tuple[list[str], set[str]]] = [
    (["atp", ""], set(COMMANDS)),
    (["atp", "fe"], {"fetch", "features"}),
    (["atp", "run", "--posi"], {"--position"}),
    (["atp", "run", "--position", "ta"], {"tail"}),
    (["atp", "features", "--min-"], {"--min-score", "--min-log-ratio", "--min-impact"}),
    (["atp", "features", "--hook"], set()),
    (["atp", "completion", "f"], {"fish"}),
    (["atp", "config", "fe"], {"fetch", "features"}),
    (["atp", "saes", "google/gemma-3-12b"], {"google/gemma-3-12b-pt", "google/gemma-3-12b-it"}),
    (["atp", "saes", "--j"], {"--json"}),
]
EACH_CASE = pytest.mark.parametrize(
    ("words", "expected"), CASES, ids=[" ".join(words) for words, _ in CASES]
)
IN_BASH = """
source "$1"
compopt() {{ :; }}  # works only while bash completes
COMP_WORDS=({words}) COMP_CWORD={last}
_atp
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def script(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A script of a shell, in a file."""
    path = tmp_path / "script"
    path.write_text(completion(request.param))
    return path


@pytest.mark.parametrize("script", ["bash"], indirect=True)
@EACH_CASE
def test_bash_completes(script: Path, words: list[str], expected: set[str]) -> None:
    quoted = " ".join(f"'{word}'" for word in words)
    code = IN_BASH.format(words=quoted, last=len(words) - 1)

    shown = subprocess.run(
        ["bash", "-c", code, "bash", script], capture_output=True, text=True, check=True
    )

    assert shown.stderr == ""
    assert {line.removesuffix("=") for line in shown.stdout.split()} == expected


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize("script", ["fish"], indirect=True)
@EACH_CASE
def test_fish_completes(script: Path, words: list[str], expected: set[str]) -> None:
    code = f"source {script}; complete -C '{' '.join(words)}'"

    shown = subprocess.run(["fish", "-c", code], capture_output=True, text=True, check=True)

    assert {line.partition("\t")[0] for line in shown.stdout.splitlines()} == expected


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize("script", ["zsh"], indirect=True)
def test_zsh_reads_its_script(script: Path) -> None:
    code = f"autoload -U compinit; compinit -u -D; source {script}; print $_comps[atp]"

    shown = subprocess.run(["zsh", "-fc", code], capture_output=True, text=True, check=True)

    assert shown.stdout == "_atp\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_option_of_every_command_is_in_the_script(shell: str) -> None:
    text = completion(shell)

    for command in COMMANDS:
        (entry,) = [
            line + "\n" for line in text.splitlines() if line.lstrip().startswith(f"{command})")
        ] or ["\n".join(line for line in text.splitlines() if f"_from {command}'" in line)]
        for options in options_by_group(command).values():
            for option in options:
                assert option.flag.removeprefix("--") in entry


def test_another_shell_is_refused() -> None:
    with pytest.raises(SettingsError, match="no completion for 'csh'"):
        completion("csh")
