"""Settings: every parameter of a run, once: its name, default, unit and check.

The usage text in cli.py and the table in README.md list the same options; a test compares them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from atp.attribution.contrasts import Position
from atp.config import shard
from atp.config.method import Baseline, Method, MethodName
from atp.errors import SettingsError, did_you_mean
from atp.runtime.paths import local_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from atp.config.shard import Shard

DEFAULT_MODEL = "google/gemma-2-9b-it"
CANONICAL_RELEASES = {
    "google/gemma-2-9b-it": "gemma-scope-9b-it-res-canonical",
    "google/gemma-2-9b": "gemma-scope-9b-pt-res-canonical",
    "google/gemma-2-2b": "gemma-scope-2b-pt-res-canonical",
    "google/gemma-2-27b": "gemma-scope-27b-pt-res-canonical",
}
"""The Gemma Scope release from which --hook-layer and --sae-width choose, by model."""

GEMMA_SCOPE_WIDTHS = {
    2**14: "16k",
    2**15: "32k",
    2**16: "65k",
    2**17: "131k",
    2**18: "262k",
    2**19: "524k",
    2**20: "1m",
}
"""What Gemma Scope calls an SAE, by its number of features: thousands, not multiples of 1024."""

DTYPES = ("float32", "bfloat16")
"""float16 is left out on purpose: it overflows in the residual stream of Gemma."""

WINDOW_PAIRS = 256
"""Pairs among which batches of similar length are made; bounds the pairs in memory."""

NO_INPUT = Path()
"""The input of a command that reads none."""


@dataclass(frozen=True)
class Settings:
    """What one run is asked to do. Frozen; made at the edge, in sources.py."""

    input: Path
    out: Path
    model: str = DEFAULT_MODEL
    revision: str | None = None
    sae: tuple[str, ...] = ()
    hook_layer: tuple[int, ...] = (31,)
    sae_width: int = 16384
    max_tokens_to_check: int = 20
    top_k: int = 50
    method: str = "atp"
    ig_steps: int = 10
    baseline: str = "zero"
    position: str = "last"
    metric: str = "first"
    sequence_tokens: int = 20
    exact: bool = False
    prompt_activations: bool = False
    chat_template: bool = False
    allow_other_model: bool = False
    model_dtype: str | None = None
    device: str | None = None
    batch_tokens: int | None = None
    save_interval: int = 10
    limit: int | None = None
    shard: Shard | None = None
    fresh: bool = False
    rounds: int = 3
    json: bool = False

    @property
    def sae_specs(self) -> tuple[str, ...]:
        """The SAEs to score, or patterns: `sae`, else the canonical ones of layers and width."""
        if self.sae:
            return self.sae
        release = CANONICAL_RELEASES.get(self.model)
        if release is None:
            msg = f"no SAE is known for the model {self.model!r}."
            raise SettingsError(msg, "MethodName one with --sae=RELEASE:SAE_ID or --sae=FOLDER.")
        width = GEMMA_SCOPE_WIDTHS[self.sae_width]
        return tuple(f"{release}:layer_{n}/width_{width}/canonical" for n in self.hook_layer)

    def deciding_numbers(self) -> dict[str, Any]:
        """Return the settings that change a score, as JSON values."""
        names = ("max_tokens_to_check", "top_k", "chat_template", "limit")
        return {**{name: getattr(self, name) for name in names}, "shard": self._shard_name}

    @property
    def scoring(self) -> Method:
        """How features are scored."""
        return Method(
            cast("MethodName", self.method),
            self.ig_steps,
            cast("Baseline", self.baseline),
            cast("Position", self.position),
            self.exact,
            self.prompt_activations,
        )

    @property
    def sequence(self) -> int | None:
        """How many tokens of the answers are contrasted; None for the first that differ."""
        return self.sequence_tokens if self.metric == "sequence" else None

    @property
    def tail(self) -> int | None:
        """About how many tokens at the end of a text carry gradients; None for all of it."""
        if self.position == "all":
            return None
        return max(20, self.sequence or 0)  # of the first metric: as far as answers are compared

    def as_json(self) -> dict[str, Any]:
        """Return every setting of a run as JSON values, for `metadata.atp`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        del values["rounds"], values["json"]  # of other commands
        values["shard"] = self._shard_name
        return {
            name: str(value) if isinstance(value, Path) else value for name, value in values.items()
        }

    @property
    def _shard_name(self) -> str | None:
        return None if self.shard is None else str(self.shard)


def whole_number(minimum: int) -> Callable[[str, str], int]:
    """Return a parser of whole numbers of at least `minimum`."""

    def parse(option: str, text: str) -> int:
        if not re.fullmatch(r"\d{1,12}", text.strip()) or int(text) < minimum:
            msg = f"{option} must be a whole number of at least {minimum}, not {text!r}."
            raise SettingsError(msg)
        return int(text)

    return parse


def layers(option: str, text: str) -> tuple[int, ...]:
    """Parse "9,20,31"."""
    parse = whole_number(0)
    found = tuple(parse(option, part) for part in text.split(","))
    if len(set(found)) < len(found):
        msg = f"{option} names a layer twice: {text!r}."
        raise SettingsError(msg)
    return found


def sae_width(option: str, text: str) -> int:
    """Parse 16384 or 16k: the number of features of a Gemma Scope SAE."""
    asked = text.strip().lower()
    for width, name in GEMMA_SCOPE_WIDTHS.items():
        if asked in {str(width), name}:
            return width
    msg = f"{option} must be a number of features such as 16384 (or 16k), not {text!r}."
    raise SettingsError(msg, f"Gemma Scope has {', '.join(GEMMA_SCOPE_WIDTHS.values())}.")


def sae_list(option: str, text: str) -> tuple[str, ...]:
    """Parse SAE names and patterns from an environment variable, separated by blanks."""
    del option
    return tuple(text.split())


def dtype(option: str, text: str) -> str:
    """Parse float32 or bfloat16."""
    if text not in DTYPES:
        msg = f"{option} must be one of {', '.join(DTYPES)}, not {text!r}."
        raise SettingsError(msg, "float16 overflows in Gemma.")
    return text


def device(option: str, text: str) -> str:
    """Parse cpu, cuda or cuda:1. Not mps: it lacks float64, which the diagnostics need."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text):
        msg = f"{option} must be cpu, cuda or cuda:N, not {text!r}."
        raise SettingsError(msg)
    return text


def switch(option: str, text: str) -> bool:
    """Parse a yes or no from an environment variable."""
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "false", "no", "off", ""}:
        return False
    msg = f"{option} must be 1 or 0, not {text!r}."
    raise SettingsError(msg)


def one_of(*names: str) -> Callable[[str, str], str]:
    """Return a parser of names."""

    def parse(option: str, text: str) -> str:
        if text not in names:
            msg = f"{option} must be one of {', '.join(names)}, not {text!r}."
            raise SettingsError(msg, did_you_mean(text, names))
        return text

    return parse


def as_text(option: str, text: str) -> str:
    """Parse a text that may not be blank."""
    if not text.strip():
        msg = f"{option} is empty."
        raise SettingsError(msg)
    return text.strip()


PARSERS: dict[str, Callable[[str, str], Any]] = {
    "out": lambda option, text: local_path(as_text(option, text)),
    "model": as_text,
    "revision": as_text,
    "sae": sae_list,
    "hook_layer": layers,
    "sae_width": sae_width,
    "max_tokens_to_check": whole_number(1),
    "top_k": whole_number(1),
    "method": one_of(*get_args(MethodName)),
    "ig_steps": whole_number(1),
    "baseline": one_of(*get_args(Baseline)),
    "position": one_of(*get_args(Position)),
    "metric": one_of("first", "sequence"),
    "sequence_tokens": whole_number(1),
    "exact": switch,
    "prompt_activations": switch,
    "chat_template": switch,
    "allow_other_model": switch,
    "model_dtype": dtype,
    "device": device,
    "batch_tokens": whole_number(1),
    "save_interval": whole_number(1),
    "limit": whole_number(1),
    "shard": shard.parse,
    "fresh": switch,
    "rounds": whole_number(1),
    "json": switch,
}
