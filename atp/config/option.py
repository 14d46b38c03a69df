"""How a field of the settings declares its option; the string below the field is the help text.

The command line, the environment, the file of settings, `atp COMMAND --help`, the completion of
shells and the JSON of the settings follow from it.
"""

from __future__ import annotations

import inspect
from ast import AnnAssign, ClassDef, Constant, Expr, Name, parse
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from atp.config import checks
from atp.config.shard import Shard

if TYPE_CHECKING:
    from atp.config.checks import Check

T = TypeVar("T")
REQUIRED: Any = MISSING  # as the default

RUN_COMMANDS = ("run", "check", "fetch", "bench")  # they take all settings of a run
MODEL_COMMANDS = (*RUN_COMMANDS, "intervene")
ALL_COMMANDS = (
    *(*MODEL_COMMANDS, "rescore"),
    *("merge", "features", "report", "intervene --compare"),
)


class Group(Enum):
    """The groups of the help text, in its order, each with the commands that take its options."""

    READ = ("What to read", MODEL_COMMANDS)
    DICTIONARIES = ("Which SAEs to use", (*MODEL_COMMANDS, "rescore"))
    CONTRAST = ("What to contrast", MODEL_COMMANDS)
    SCORE = ("How to score features", RUN_COMMANDS)
    RUN = ("How to run", MODEL_COMMANDS)
    WORKERS = ("How to spread a run over GPUs and machines", ("run", "check"))
    SAVE = ("How to divide and save a run", RUN_COMMANDS)
    VECTORS = ("What to keep for atp rescore", ("run", "check"))
    CHECK = ("How to report", ("check", "saes"))
    BENCH = ("How to measure", ("bench",))
    SHOW = ("What to do after the run", ("run",))
    SELECT = ("Which features to select", ("features", "report"))
    SELECTED = ("What to do with the selected features", ("features",))
    INTERVENE = ("What to remove, and what to measure", ("intervene",))
    DRAW = ("How to draw at random", ("features", "report", "intervene"))
    REPORT = ("What to show", ("report",))
    GENERAL = ("Where to write, and what to show", ALL_COMMANDS)

    def __init__(self, title: str, commands: tuple[str, ...]) -> None:
        self.title = title
        self.commands = commands


@dataclass(frozen=True)
class Option:
    """An option of the command line and of the environment."""

    name: str  # with underscores: top_k is --top-k and ATP_TOP_K
    group: Group
    default: Any
    metavar: str  # stands for the value in the help text; empty for a switch
    check: Check
    help: str
    repeatable: bool = False
    letter: str = ""  # its short name on the command line: -q

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return f"ATP_{self.name.upper()}"

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it takes, if these are few and have names."""
        return self.check.names if isinstance(self.check, checks.OneOf | checks.SomeOf) else ()


def option(group: Group, default: T, metavar: str, check: Check, **more: object) -> T:
    """Return a dataclass field that declares an option of the same name; see Option."""
    declared = {"group": group, "default": default, "metavar": metavar, "check": check, **more}
    return field(default=default, metadata=declared)


def switch(group: Group, **more: object) -> bool:
    """Return a dataclass field that declares a switch, which is off by default."""
    return option(group, default=False, metavar="", check=checks.switch, **more)


@cache
def options_of(settings: type) -> dict[str, Option]:
    """Return the options that a settings class declares, by field."""
    definition = cast("ClassDef", parse(inspect.getsource(settings)).body[0])
    texts = {}
    for above, below in pairwise(definition.body):
        match above, below:
            case AnnAssign(target=Name(id=name)), Expr(value=Constant(value=str(text))):
                texts[name] = " ".join(text.split())
    return {
        each.name: Option(**{"name": each.name, "help": texts.get(each.name), **each.metadata})
        for each in fields(settings)
        if each.metadata
    }


def json_values(settings: Any, command: str) -> dict[str, Any]:  # noqa: ANN401  (any such class)
    """Return the options that a command takes, of settings and those in them, as JSON values."""
    options = options_of(settings.__class__)
    values: dict[str, Any] = {}
    for each in fields(settings):
        value, option = getattr(settings, each.name), options.get(each.name)
        if option is None:
            values |= json_values(value, command) if is_dataclass(value) else {}
        elif command in option.group.commands:
            values[option.name] = str(value) if isinstance(value, Path | Shard) else value
    return values
