"""Checks of option values: each turns a text into a value, or says in one line what is wrong.

A check takes the name under which the text was given, `--top-k` or `ATP_TOP_K`, and the text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from atp.errors import SettingsError, did_you_mean
from atp.runtime.paths import local_path

if TYPE_CHECKING:
    from pathlib import Path

Check = Callable[[str, str], Any]
ON, OFF = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def valid(
    description: str,
    convert: Callable[[str], Any],
    accepted: Callable[[Any], object] = lambda _: True,
    hint: Callable[[str], str] = lambda _: "",
) -> Check:
    """Return a check of texts that can be converted, and give an accepted value."""

    def check(option: str, given: str) -> Any:  # noqa: ANN401  (of any type)
        try:
            value = convert(given)
            if accepted(value):
                return value
        except (ValueError, LookupError):
            pass
        msg = f"{option} must be {description}, not {given!r}."
        raise SettingsError(msg, hint(given))

    return check


def whole_number(minimum: int) -> Check:
    """Return a check of whole numbers of at least `minimum`."""
    return valid(f"a whole number of at least {minimum}", _digits, lambda value: value >= minimum)


def number(description: str, accepted: Callable[[float], bool] = math.isfinite) -> Check:
    """Return a check of finite decimal numbers."""
    return valid(description, float, lambda value: math.isfinite(value) and accepted(value))


def or_none(check: Check) -> Check:
    """Return a check that also takes the word "none", for None."""
    return lambda option, given: None if given.strip().lower() == "none" else check(option, given)


@dataclass(frozen=True)
class OneOf:
    """A check of names."""

    names: tuple[str, ...]
    synonyms: Mapping[str, str] = field(default_factory=dict)
    """Other words for some of them: what a switch took, before it had names."""

    def __call__(self, option: str, given: str) -> str:
        """Return the name that is given, or raise SettingsError."""
        given = self.synonyms.get(given.lower(), given)
        if given not in self.names:
            msg = f"{option} must be one of {', '.join(self.names)}, not {given!r}."
            hint = did_you_mean(given, self.names)
            if self.synonyms:  # it was a switch: a word that follows it is no value
                hint = f"Write {option}={self.names[-1]}, or another of these."
            raise SettingsError(msg, hint)
        return given


@dataclass(frozen=True)
class SomeOf:
    """A check of names with commas between them."""

    names: tuple[str, ...]

    def __call__(self, option: str, given: str) -> tuple[str, ...]:
        """Return the names that are given, each once, or raise SettingsError."""
        one = OneOf(self.names)
        return tuple(dict.fromkeys(one(option, name.strip()) for name in given.split(",")))


def path(option: str, given: str) -> Path:
    """Return a path that a result file, which is UTF-8, can record."""
    try:
        given.encode()
    except UnicodeEncodeError as error:
        msg = f"{option} is not UTF-8: {given}."
        raise SettingsError(msg, "The result file records this name; rename it.") from error
    return local_path(text(option, given))


def _digits(given: str) -> int:
    if not re.fullmatch(r"\d{1,12}", given.strip()):
        raise ValueError(given)
    return int(given)


text = valid("a name or a path", str.strip, bool)
words = valid("names", lambda given: tuple(given.split()))
switch = valid("1 or 0", lambda given: (OFF + ON).index(given.lower()) >= len(OFF))
layers = valid(
    "whole numbers such as 9,20,31, each once",
    lambda given: tuple(map(_digits, given.split(","))),
    lambda numbers: len(set(numbers)) == len(numbers),
)
device = valid("cpu, cuda or cuda:N", str, re.compile(r"cpu|cuda(:\d+)?").fullmatch)
