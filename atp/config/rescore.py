"""The settings of `atp rescore`: the vectors of a run, and other SAEs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atp.config.method import Method
from atp.config.option import Group, options_of
from atp.config.settings import Settings
from atp.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class RescoreSettings:
    """Which vectors to score, with which SAEs."""

    vectors: Path
    out: Path
    saes: Mapping[str, Any]
    """Those fields of Settings that choose SAEs, as the user gave them."""
    input: Path | None = None  # None: where the run found it

    def settings(self, of_run: Mapping[str, Any]) -> Settings:
        """Return the settings of a run of attribution patching with these SAEs.

        `of_run` are those of the run that captured the vectors, as its `metadata.atp` has them.
        """
        if not self.saes.keys() - {"allow_other_model"}:
            msg = "no SAE is named."
            raise SettingsError(msg, "Write --sae=SPEC, or choose one by --hook-layer.")
        values = _fields_of(Settings, of_run, but=Group.DICTIONARIES)
        method = Method(**_fields_of(Method, of_run))
        found = self.input or Path(of_run["input"])
        own = {"input": found, "out": self.out, "fresh": False, **self.saes}
        settings = Settings(**{**values, **own})
        return replace(settings, scoring=replace(method, name="atp", exact="none"))


def _fields_of(
    settings: type, values: Mapping[str, Any], but: Group | None = None
) -> dict[str, Any]:
    """Return the fields of a settings class from the JSON values of a run."""
    return {
        field: _value(option.check, option.flag, values[option.name])
        for field, option in options_of(settings).items()
        if option.name in values and option.group is not but
    }


def _value(check: Any, flag: str, value: Any) -> Any:  # noqa: ANN401  (any JSON value)
    if isinstance(value, list):
        return tuple(value)
    return check(flag, value) if isinstance(value, str) else value
