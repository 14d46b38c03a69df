"""Records of `atp fetch`; a run whose model and SAEs all have a valid record asks no hub.

A record is valid as long as its revision still means the recorded commit in the hub cache, which
the libraries use without a network, and each file has its size.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import orjson
import structlog
from huggingface_hub import constants

from atp.model.dictionaries.names import published_at
from atp.model.hub_cache import cached_folder, file_bytes, repository_folder
from atp.model.names import is_local

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from atp.model.dictionaries.files import Published

MAIN = constants.DEFAULT_REVISION
MODEL = "model"
"""A record's name for the part of a repository that is a model; an SAE goes by its path."""

FILE_ENTRY = {"bytes": int, "sha256": str, "blob": str}

log = structlog.get_logger()


@dataclass(frozen=True)
class HubRequest:
    """A model of the hub, or a published SAE, that a run needs; named as for --model or --sae."""

    name: str
    repository: str
    revision: str
    published: Published | None = None

    @property
    def part(self) -> str:
        """Its name in a record."""
        return MODEL if self.published is None else f"sae {self.published.path}"


def hub_requests(model: str | None, revision: str | None, specs: Sequence[str]) -> list[HubRequest]:
    """Return the model, if one is named, and the SAEs that are not local; checks SAEs' names."""
    of_model = None if model is None else model_request(model, revision)
    requests = [of_model, *map(sae_request, specs)]
    return [request for request in requests if request is not None]


def model_request(name: str, revision: str | None) -> HubRequest | None:
    """Return the request for a model; None for a local one."""
    return None if is_local(name) else HubRequest(name, name, revision or MAIN)


def sae_request(spec: str) -> HubRequest | None:
    """Return the request for an SAE; None for a folder here. Checks the name."""
    published = published_at(spec)  # of the main branch: SAELens reads no other
    return None if published is None else HubRequest(spec, published.repository, MAIN, published)


def is_fetched(request: HubRequest | None) -> bool | None:
    """Say whether a model or SAE has a valid record; None for a local one."""
    return None if request is None else valid_record(request) is not None


def record_path(repository: str, revision: str) -> Path:
    """Return the path of the record of a repository at a revision."""
    return repository_folder(repository) / "atp" / f"{quote(revision, safe='')}.json"


def read_record(repository: str, revision: str) -> dict[str, Any] | None:
    """Return the record of a repository at a revision; None where there is no readable one."""
    try:
        record = orjson.loads(record_path(repository, revision).read_bytes())
        files = record["files"]
        is_whole = isinstance(record["commit"], str) and all(
            isinstance(entry[key], kind)
            for entry in files.values()
            for key, kind in FILE_ENTRY.items()
        )
        names = {name for part in record["parts"].values() for name in part}
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None
    return dict(record) if is_whole and names <= files.keys() else None


def valid_record(request: HubRequest) -> dict[str, Any] | None:
    """Return the record of a model or SAE, if all its files are still in the cache.

    A result names a commit: its record may be that of the branch that was fetched.
    """
    repository, revision = request.repository, request.revision
    record = read_record(repository, revision)
    if record is None:
        fetched = sorted((repository_folder(repository) / "atp").glob("*.json"))
        records = filter(None, (read_record(repository, unquote(path.stem)) for path in fetched))
        of_commit = (each for each in records if each["commit"] == revision)
        record = next((each for each in of_commit if request.part in each["parts"]), None)
    folder = cached_folder(repository, revision)
    if record is None or folder is None or folder.name != record["commit"]:
        return None
    names, files = record["parts"].get(request.part), record["files"]
    if not names or any(file_bytes(folder / name) != files[name]["bytes"] for name in names):
        return None
    return record


def go_offline_if_fetched(model: str | None, revision: str | None, specs: Sequence[str]) -> None:
    """Put this process offline, on the fetched commits, if all that is named was fetched."""
    if constants.is_offline_mode():
        return
    requests = hub_requests(model, revision, specs)
    records = {r: record for r in requests if (record := valid_record(r)) is not None}
    if not records or len(records) < len(requests):
        return
    go_offline()
    log.info(
        "hub.offline",
        commits={request.repository: record["commit"] for request, record in records.items()},
        records=sorted(
            {str(record_path(r.repository, record["revision"])) for r, record in records.items()}
        ),
    )


@contextmanager
def offline_if_fetched(
    model: str | None, revision: str | None, specs: Sequence[str]
) -> Iterator[None]:
    """Do the same until the context ends: a notebook may ask the hub for other things."""
    before, variable = constants.HF_HUB_OFFLINE, os.environ.get("HF_HUB_OFFLINE")
    go_offline_if_fetched(model, revision, specs)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        os.environ.pop("HF_HUB_OFFLINE", None)
        if variable is not None:
            os.environ["HF_HUB_OFFLINE"] = variable


def go_offline() -> None:
    """Keep the libraries of this process from asking the hub, imported now or later."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True
