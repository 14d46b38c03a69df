"""Plan: the files that a run needs of a hub repository, and which of them are in the cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from atp.model.hub.download import is_here, missing_bytes
from atp.model.hub.listing import list_repository
from atp.model.hub.records import MODEL, read_record, valid_record
from atp.model.hub.required_files import model_files, sae_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.model.hub.listing import HubFile, Listing
    from atp.model.hub.records import HubRequest

log = structlog.get_logger()


@dataclass
class Plan:
    """The files of a repository, at the commit that its revision means now."""

    requests: Sequence[HubRequest]
    listing: Listing
    parts: dict[str, list[str]]
    """File names by model and SAE, also of an earlier fetch."""
    recorded: dict[str, Any]
    sha256: dict[str, str] = field(default_factory=dict)
    """Of each file that has been checked, or whose record still holds."""

    @property
    def files(self) -> list[HubFile]:
        """All files, each once, the small ones first: their errors show soonest."""
        names = {name for part in self.parts.values() for name in part}
        return sorted((self.listing.files[name] for name in names), key=lambda file: file.bytes)

    @property
    def unchecked(self) -> list[HubFile]:
        """Files to download or to check."""
        return [file for file in self.files if file.name not in self.sha256]

    @property
    def missing_bytes(self) -> int:
        """How many bytes have to be downloaded; one blob may be several files."""
        blobs = {file.blob: missing_bytes(self.listing, file) for file in self.unchecked}
        return sum(blobs.values())

    @property
    def needs_record(self) -> bool:
        """Whether the record differs from this plan, now that all files are checked."""
        return not (
            self.as_json().items() <= self.recorded.items()
            and all(map(valid_record, self.requests))
        )

    def as_json(self) -> dict[str, Any]:
        """Return its entries in a record."""

        def entry(file: HubFile) -> dict[str, Any]:
            sha256 = self.sha256[file.name]
            return {"bytes": file.bytes, "sha256": sha256, "blob": file.blob}

        files = sorted(self.files, key=lambda file: file.name)
        return {
            "repository": self.listing.repository,
            "revision": self.listing.revision,
            "commit": self.listing.commit,
            "bytes": sum(file.bytes for file in files),
            "parts": self.parts,
            "files": {file.name: entry(file) for file in files},
        }


def plan_repository(requests: Sequence[HubRequest], *, fresh: bool) -> Plan:
    """Ask the hub for the files of one repository at a revision, and look for them in the cache."""
    listing = list_repository(requests[0].repository, requests[0].revision)
    parts = {
        request.part: sae_files(listing, request.published)
        if request.published
        else model_files(listing)
        for request in requests
    }
    record = read_record(listing.repository, listing.revision) or {"parts": {}, "files": {}}
    entries = record["files"]
    plan = Plan(requests, listing, parts, record)
    for part, names in record["parts"].items():
        if part in parts or (part == MODEL and record["commit"] != listing.commit):
            continue  # a later commit may have more files of a model
        # One revision, one commit: parts of earlier fetches stay only if they have not changed.
        if all(_is_same(entries.get(name), listing.files.get(name)) for name in names):
            parts[part] = names
        else:
            log.warning("fetch.outdated", repository=listing.repository, part=part)
    for file in plan.files:
        if not fresh and is_here(listing, file) and _is_same(entries.get(file.name), file):
            plan.sha256[file.name] = entries[file.name]["sha256"]
    return plan


def _is_same(entry: dict[str, Any] | None, file: HubFile | None) -> bool:
    return entry is not None and file is not None and entry["blob"] == file.blob
