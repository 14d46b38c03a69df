"""The result files of shards: where they are, what each says of itself, which belong together.

What stands in them of questions and pairs is left to whole.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from atp.config.shard import Shard, parse
from atp.dataset.input_scan import scan_input
from atp.dataset.written import as_written
from atp.errors import InputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from atp.dataset.input_scan import InputScan

PATTERN = "atp_results_*_shard*of*_*.json"
"""How a shard's result files are named."""

FACTS = ("input", "model", "sae", "method", "settings", "versions", "source_sha256")
"""The parts of `metadata.atp` in which all shards of a run agree, but for what names a place."""
OF_ITS_OWN = {
    "input": {"path"},
    "sae": {"spec"},
    "settings": {
        *("input", "out", "model", "revision", "sae", "hook_layer", "sae_width", "device"),
        *("allow_other_model", "model_dtype", "save_interval", "fresh", "shard"),
    },
}
"""What shards of a run may differ in: the names of things, and what changes no number."""


@dataclass(frozen=True)
class Part:
    """The result file of a shard."""

    scan: InputScan
    shard: Shard
    told: dict[str, Any]
    """Its `metadata.atp`."""

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read a file once and return what it is.

        Raises:
            InputError: it cannot be read, or is no result of a shard.
        """
        found = scan_input(path)
        metadata = found.top_level.get("metadata") or {}
        hint = "Name the results of atp run --shard=I/N."
        try:
            told = as_written(metadata["atp"])
            shard = told["settings"].get("shard")
            part = None if shard is None else cls(found, parse("settings.shard", shard), told)
            if part is not None:
                part.check()
        except (KeyError, TypeError, ValueError, AttributeError, SettingsError) as error:
            msg = f"{path} is no result of atp run."
            raise InputError(msg, hint) from error
        if part is None:
            msg = f"{path} is the result of a whole run, not of a shard."
            raise InputError(msg, hint)
        return part

    def check(self) -> None:
        """Look at what is needed of it.

        Raises:
            ValueError: or KeyError, TypeError, AttributeError: it is not there.
        """
        told = self.told
        times = [datetime.fromisoformat(told[name]) for name in ("started", "finished")]
        plain = re.fullmatch(r"atp_results_[^/\\]+", told["unsharded"]["result"])
        counts = [told["counts"]["pairs"], told["counts"]["pending"], told["input"]["bytes"]]
        if not all(time.tzinfo for time in times) or plain is None:
            raise ValueError
        if not all(isinstance(count, int) for count in counts):
            raise ValueError
        hash((self.run, self.sae, self.complete, told["input"]["sha256"]))

    @property
    def path(self) -> Path:
        """The file."""
        return self.scan.path

    @property
    def complete(self) -> bool:
        """Whether the shard has done all that is its own."""
        return bool(self.told["complete"])

    @property
    def started(self) -> datetime:
        """When the shard was first started."""
        return datetime.fromisoformat(self.told["started"])

    @property
    def sae(self) -> str:
        """What tells its SAE from others, whatever it was called."""
        sae = self.told["sae"]
        return repr(sorted((key, value) for key, value in sae.items() if key != "spec"))

    @property
    def run(self) -> tuple[str, int, int]:
        """What is the same for all shards of a run: its fingerprint, token budget, their number."""
        budget = self.told["settings"]["batch_tokens"]
        return self.told["unsharded"]["fingerprint"], budget, self.shard.count


def files_in(folder: Path) -> list[Path]:
    """Return the result files of shards in a folder and in the folders in it.

    Raises:
        InputError: there is none.
    """
    found = sorted(path for each in (PATTERN, f"*/{PATTERN}") for path in folder.glob(each))
    if not found:
        msg = f"neither {folder} nor a folder in it holds the result of a shard, {PATTERN}."
        raise InputError(msg, "Name the files, or a folder above them: atp merge RESULT...")
    return found


def newest(parts: Sequence[Part]) -> list[Part]:
    """Choose from what folders hold: the last run, and of each shard and SAE of it one file.

    A shard's last complete file is taken; where none is complete, the last. Earlier runs, whole or
    not, are in nobody's way.
    """
    last = max(parts, key=_age).run if parts else None
    chosen = {
        (part.sae, part.run, part.shard): part
        for part in sorted(parts, key=lambda part: (part.complete, *_age(part)))
        if part.run == last
    }
    return [part for part in parts if chosen.get((part.sae, part.run, part.shard)) is part]


def _age(part: Part) -> tuple[datetime, str]:
    return part.started, str(part.path)


def groups(parts: Sequence[Part]) -> list[list[Part]]:
    """Return the shards of each run and SAE, in their order.

    Raises:
        InputError: a shard is missing, not complete, or there twice; says which.
    """
    together: dict[object, list[Part]] = {}
    for part in parts:
        together.setdefault((part.run, part.sae), []).append(part)
    return [_in_order(group, parts) for group in together.values()]


def _in_order(group: Sequence[Part], parts: Sequence[Part]) -> list[Part]:
    by_shard: dict[Shard, Part] = {}
    for part in group:
        other = by_shard.setdefault(part.shard, part)
        if other.scan.sha256 != part.scan.sha256:
            msg = f"shard {part.shard} is there twice, with different content: "
            msg += f"{other.path} and {part.path}."
            raise InputError(msg, "Name one of them.")
    count = group[0].shard.count
    for shard in (Shard(index, count) for index in range(count)):
        if shard not in by_shard:
            raise _missing(shard, group, parts)
        if not by_shard[shard].complete:
            pending = by_shard[shard].told["counts"]["pending"]
            msg = f"shard {shard} is not complete, {pending:,} pairs are left: "
            msg += f"{by_shard[shard].path}."
            raise InputError(msg, f"Start shard {shard} again, and merge when it is done.")
    return [by_shard[shard] for shard in sorted(by_shard, key=lambda shard: shard.index)]


def _missing(shard: Shard, group: Sequence[Part], parts: Sequence[Part]) -> InputError:
    """Say which shard is missing, and what keeps a file that might be it from being it."""
    first = group[0]
    others = [part for part in parts if part.sae == first.sae and part.run != first.run]
    others.sort(key=lambda part: part.shard != shard)  # what comes nearest
    others += [part for part in parts if part.sae != first.sae and part.run != first.run]
    if not others:
        msg = f"shard {shard} of the run of {first.path} is missing."
        return InputError(msg, f"Run it with --shard={shard}, or name its result, too.")
    differs = difference(first, others[0])
    msg = f"{first.path} and {others[0].path} are not of the same run: {differs}."
    return InputError(msg, "Run all shards with the same command, and merge only these.")


def difference(one: Part, other: Part) -> str:
    """Say in what the runs of two shards differ."""
    if one.shard.count != other.shard.count:
        return f"they are shards {one.shard} and {other.shard}"
    for path in _paths(one.told, other.told):
        a, b = (_at(part.told, path) for part in (one, other))
        if a != b:
            return f"{'.'.join(path)} is {str(a)[:80]} in one and {str(b)[:80]} in the other"
    return "one has other SAEs beside this one"


def _paths(*told: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield where two results are to agree: a fact, or a field of one."""
    for name in FACTS:
        parts = [each.get(name) for each in told]
        if not all(isinstance(part, dict) for part in parts):
            yield (name,)
            continue
        fields: Iterable[str] = dict.fromkeys(key for part in parts for key in part or ())
        yield from ((name, key) for key in fields if key not in OF_ITS_OWN.get(name, ()))


def _at(told: dict[str, Any], path: Sequence[str]) -> Any:  # noqa: ANN401  (any JSON value)
    value: Any = told
    for key in path:
        value = value.get(key)
    return value
