"""The result files that `atp features` is given: what each says of itself, which go together.

What stands in them of pairs is left to scored.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from atp.dataset.input_scan import scan_input
from atp.dataset.source import opened
from atp.dataset.written import as_written
from atp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from atp.dataset.input_scan import InputScan

PATTERN = "atp_results_*.json"
"""How result files are named."""

SETTINGS = ("chat_template", "max_tokens_to_check", "top_k")
"""What decides, beside model and method, what a score is, and what it means not to be listed."""


@dataclass(frozen=True)
class Result:
    """A result file of `atp run` or `atp merge`."""

    scan: InputScan
    told: dict[str, Any]
    """Its `metadata.atp`."""

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read a file once and return what it is.

        Raises:
            InputError: it cannot be read, or is no result.
        """
        found = scan_input(path)
        try:
            result = cls(found, as_written(found.top_level["metadata"]["atp"]))
            result.check()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            msg = f"{path} is no result of atp run."
            raise InputError(msg, "Name result files, or a folder of them.") from error
        return result

    def check(self) -> None:
        """Look at what is needed of it.

        Raises:
            ValueError: or KeyError, TypeError, AttributeError: it is not there.
        """
        told = self.told
        texts = [*self.sae, self.input_sha256, told["fingerprint"], told["model"]["name"]]
        counts = [told["counts"][name] for name in ("scored", "error", "pending")]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError
        if not all(isinstance(count, int) for count in counts):
            raise ValueError
        if self.started.tzinfo is None or not isinstance(told["complete"], bool):
            raise ValueError
        for fact in ("sae", "method", "settings"):
            told[fact].items()

    @property
    def path(self) -> Path:
        """The file."""
        return self.scan.path

    @property
    def shard(self) -> str | None:
        """Which part of a run it is; None for a whole one."""
        shard: str | None = self.told["settings"].get("shard")
        return shard

    @property
    def started(self) -> datetime:
        """When its run was first started."""
        return datetime.fromisoformat(self.told["started"])

    @property
    def run(self) -> tuple[datetime, str]:
        """What is the same for all results of a run; later runs have a greater one."""
        return self.started, self.told["fingerprint"]

    @property
    def sae(self) -> tuple[str, str]:
        """What tells its SAE from others, whatever it was called: hook point and weights."""
        return self.told["sae"]["hook_name"], self.told["sae"]["sha256"]

    @property
    def input_sha256(self) -> str:
        """The hash of what was scored."""
        sha256: str = self.told["input"]["sha256"]
        return sha256


def found_in(results: Sequence[Path]) -> tuple[list[Result], list[Path]]:
    """Return the results that are named, and those that folders hold but that are left out.

    Of each folder, with the folders in it, the last run is taken, all SAEs of it.

    Raises:
        InputError: a file is no result, or not the whole one of a finished run, or a folder holds
            none.
    """
    for path in results:
        if not path.is_dir():
            with opened(path):
                pass  # whether it is there, before any is read
    taken: dict[Path, Result] = {}
    left_out: list[Path] = []
    for path in dict.fromkeys(results):
        candidates = _in_folder(path) if path.is_dir() else [Result.of(path)]
        last = max(result.run for result in candidates)
        for result in candidates:
            if result.run == last:
                _check_whole(result)
                taken.setdefault(result.path.resolve(), result)
            else:
                left_out.append(result.path)
    return list(taken.values()), [path for path in left_out if path.resolve() not in taken]


def _in_folder(folder: Path) -> list[Result]:
    """Return the results of whole runs in a folder and in the folders in it."""
    paths = sorted(path for each in (PATTERN, f"*/{PATTERN}") for path in folder.glob(each))
    if not paths:
        msg = f"neither {folder} nor a folder in it holds a result, {PATTERN}."
        raise InputError(msg, "Name the files, or a folder above them: atp features RESULT...")
    found = [Result.of(path) for path in paths]
    return [result for result in found if result.shard is None] or found


def _check_whole(result: Result) -> None:
    """Refuse what is a part only."""
    if result.shard is not None:
        msg = f"{result.path} is the result of shard {result.shard}, a part of a run."
        raise InputError(msg, "Put the shards together with atp merge, and name what it writes.")
    if not result.told["complete"]:
        pending = result.told["counts"]["pending"]
        msg = f"{result.path} is not complete, {pending:,} pairs are left."
        raise InputError(msg, "Start the same run again; it goes on where it was.")


def check_alike(results: Sequence[Result]) -> None:
    """Make sure that the scores of some results may be put together.

    Raises:
        InputError: they are of different models or methods; says which fact differs.
    """
    first = results[0]
    for other in results[1:]:
        for fact, key in _facts(first, other):
            one, two = (result.told[fact].get(key) for result in (first, other))
            if one != two:
                msg = f"{first.path} and {other.path} cannot be put together: {fact}.{key} is "
                msg += f"{str(one)[:80]} in one and {str(two)[:80]} in the other."
                raise InputError(msg, "Name results of one model and one method at a time.")


def _facts(first: Result, other: Result) -> Iterator[tuple[str, str]]:
    """Yield where two results are to agree."""
    for fact in ("model", "method"):
        keys = dict.fromkeys((*first.told[fact], *other.told[fact]))
        ignored = _of_its_own(first) if fact == "model" else set()
        yield from ((fact, key) for key in keys if key not in ignored)
    yield from (("settings", key) for key in SETTINGS)


def _of_its_own(result: Result) -> set[str]:
    """Return in which facts of its model another result may differ.

    Weights with a hash are the same by any name.
    """
    return {"device", "name"} if "sha256" in result.told["model"] else {"device"}
