"""Reads the commands in deploy/ as docker and the container's entry point do.

Only the docker options used there are known. The tests say what their values should be.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from atp.cli.arguments import Given, read, unknown_variables
from atp.cli.build_settings import run_settings
from atp.config.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SWITCHES = {"--rm", "--read-only"}
"""Of docker run: all others here take a value."""


@dataclass
class Container:
    """What a `docker run` asks for."""

    options: dict[str, list[str]] = field(default_factory=dict)
    image: str = ""
    arguments: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What it adds to the environment."""
        return dict(each.split("=", 1) for each in self.options.get("--env", []))

    def mount(self, target: str) -> dict[str, str]:
        """Return the parts of the mount at a path."""
        mounts = [
            dict(part.partition("=")[::2] for part in each.split(","))
            for each in self.options.get("--mount", [])
        ]
        return next((each for each in mounts if each["target"] == target), {})


def docker_run(argv: list[str]) -> Container:
    """Read the arguments behind `docker run`."""
    found = Container()
    rest = list(argv)
    while rest and rest[0].startswith("--"):
        name = rest.pop(0)
        found.options.setdefault(name, []).append("" if name in SWITCHES else rest.pop(0))
    found.image, *found.arguments = rest
    return found


def understood(arguments: list[str], environment: dict[str, str] | None = None) -> Given:
    """Return what atp reads in a container's arguments; AtpError where they are wrong.

    Of none, and of options alone, the entry point makes a run.
    """
    command = [] if arguments and not arguments[0].startswith("-") else ["run"]
    filled_in = [each.replace("$(JOB_COMPLETION_INDEX)", "0") for each in arguments]
    return read([*command, *filled_in], environment or {})


def settings_of(arguments: list[str], environment: dict[str, str]) -> Settings:
    """Return the settings of a run; AtpError where one is malformed or unknown."""
    ours = {name: value for name, value in environment.items() if name.startswith("ATP_")}
    assert not unknown_variables(ours)
    return run_settings(understood(arguments, {"ATP_INPUT": "feedback.json"} | ours))


def env_file(path: Path) -> dict[str, str]:
    """Read a file of --env-file as docker does; examples that are commented out, too."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(
        line.removeprefix("#").split("=", 1)
        for line in lines
        if line.removeprefix("#").startswith("ATP_")
    )
