"""What `atp fetch` has recorded, and what follows: a run that finds all it names there asks no hub.

A record stands beside what it tells of, in the folder of its repository in the hub cache, and is
worth what the cache still has: the revision must still mean the recorded commit there, for that is
what the libraries go by without a network, and each file must be there in its size.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson
import structlog
from huggingface_hub import constants

from atp.model.dictionaries.names import published_at
from atp.model.hub_cache import cached_folder, repository_folder
from atp.model.names import is_local

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from atp.model.dictionaries.names import Published

MAIN = constants.DEFAULT_REVISION
MODEL = "model"
"""How a record calls the part of a repository that a model is; an SAE goes by its path."""

OF_A_FILE = {"bytes": int, "sha256": str, "blob": str}
"""What a record tells of each file."""

log = structlog.get_logger()


@dataclass(frozen=True)
class HubRequest:
    """What a run needs of the hub: a model, or an SAE."""

    name: str
    """As given to --model or --sae."""
    repository: str
    revision: str
    published: Published | None = None
    """Where the SAE is; None: it is the model."""

    @property
    def part(self) -> str:
        """How a record calls it."""
        return MODEL if self.published is None else f"sae {self.published.path}"


def hub_requests(model: str, revision: str | None, specs: Sequence[str]) -> list[HubRequest]:
    """Return what of a run is not local.

    Args:
        model: as given to --model.
        revision: as given to --revision.
        specs: the SAEs, patterns expanded.

    Raises:
        SettingsError: an SAE's name is wrong.
    """
    found = [model_request(model, revision), *map(sae_request, specs)]
    return [each for each in found if each is not None]


def model_request(name: str, revision: str | None) -> HubRequest | None:
    """Return what a model is on the hub; None for a local one."""
    return None if is_local(name) else HubRequest(name, name, revision or MAIN)


def sae_request(spec: str) -> HubRequest | None:
    """Return what an SAE is on the hub; None for a folder here.

    Raises:
        SettingsError: its name is wrong.
    """
    published = published_at(spec)  # of the main branch: SAELens reads no other
    return None if published is None else HubRequest(spec, published.repository, MAIN, published)


def is_fetched(asked: HubRequest | None) -> bool | None:
    """Say whether something was fetched and is all there; None for what is local."""
    return None if asked is None else valid_record(asked) is not None


def record_path(repository: str, revision: str) -> Path:
    """Return where the record of a repository at a revision is, or would be."""
    return repository_folder(repository) / "atp" / f"{quote(revision, safe='')}.json"


def read_record(repository: str, revision: str) -> dict[str, Any] | None:
    """Return the record of a repository at a revision; None where there is none to be read."""
    try:
        record = orjson.loads(record_path(repository, revision).read_bytes())
        files = record["files"]
        whole = isinstance(record["commit"], str) and all(
            isinstance(each[key], kind)
            for each in files.values()
            for key, kind in OF_A_FILE.items()
        )
        named = {name for part in record["parts"].values() for name in part}
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None
    return dict(record) if whole and named <= files.keys() else None


def valid_record(asked: HubRequest) -> dict[str, Any] | None:
    """Return the record that something was fetched, if all of it is still there."""
    record = read_record(asked.repository, asked.revision)
    folder = cached_folder(asked.repository, asked.revision)
    if record is None or folder is None or folder.name != record["commit"]:
        return None
    names, files = record["parts"].get(asked.part), record["files"]
    if not names or any(_size(folder / name) != files[name]["bytes"] for name in names):
        return None
    return record


def go_offline_if_fetched(model: str, revision: str | None, specs: Sequence[str]) -> None:
    """Put the libraries offline, for this process, if `atp fetch` has brought all that is named.

    The rest of the process then makes no network call, and stays on the commits that were fetched.

    Args:
        model: as given to --model.
        revision: as given to --revision.
        specs: the SAEs, patterns expanded.
    """
    if constants.is_offline_mode():
        return
    asked = hub_requests(model, revision, specs)
    found = [(each, record) for each in asked if (record := valid_record(each)) is not None]
    if not found or len(found) < len(asked):
        return
    go_offline()
    log.info(
        "hub.offline",
        commits={each.repository: record["commit"] for each, record in found},
        records=sorted({str(record_path(each.repository, each.revision)) for each, _ in found}),
    )


def go_offline() -> None:
    """Have the libraries of this process ask no hub: those here already, and those to come."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
