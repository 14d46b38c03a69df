"""The settings that every command takes: where its settings come from, and what it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from atp.config import checks
from atp.config.option import Group, option, switch

if TYPE_CHECKING:
    from pathlib import Path

LogFormat = Literal["auto", "json", "console"]


@dataclass(frozen=True)
class GeneralSettings:
    """Where a command's settings come from, and what it shows."""

    config: Path | None = option(Group.GENERAL, None, "FILE", checks.path)
    """Settings, as `atp config` prints them; or a result, whose settings are repeated."""
    log_format: LogFormat = option(Group.GENERAL, "auto", "NAME", checks.OneOf(get_args(LogFormat)))
    """json: one object a line. console: for a person. auto: console on a terminal, else json."""
    quiet: bool = switch(Group.GENERAL, letter="-q")
    """Show warnings and errors only."""
    verbose: bool = switch(Group.GENERAL, letter="-v")
    """On a terminal, show every event of the log."""
