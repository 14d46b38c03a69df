"""Plan: what of a hub repository a fetch has to bring, and what is there already."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from atp.model.hub.download import is_here, missing_bytes
from atp.model.hub.listing import listing
from atp.model.hub.records import MODEL, read_record
from atp.model.hub.required_files import model_files, sae_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.model.hub.listing import HubFile, Listing
    from atp.model.hub.records import HubRequest

log = structlog.get_logger()


@dataclass
class Plan:
    """What a run needs of a repository, at the commit that its revision means now."""

    listing: Listing
    parts: dict[str, list[str]]
    """The names of its files, by model and SAE."""
    recorded: dict[str, Any] = field(default_factory=dict)
    """What an earlier fetch has recorded."""
    sha256: dict[str, str] = field(default_factory=dict)
    """Of the files that have been checked; those of an earlier record need no second look."""

    @property
    def files(self) -> list[HubFile]:
        """All files of all parts, each once, the small ones first: they tell of a fault soonest."""
        names = {name for part in self.parts.values() for name in part}
        return sorted((self.listing.files[name] for name in names), key=lambda file: file.bytes)

    @property
    def open(self) -> list[HubFile]:
        """The files that have to come, or to be checked."""
        return [file for file in self.files if file.name not in self.sha256]

    @property
    def missing(self) -> int:
        """How many bytes have to come."""
        blobs = {file.blob: missing_bytes(self.listing, file) for file in self.open}
        return sum(blobs.values())

    @property
    def is_recorded(self) -> bool:
        """Whether the record says all this already, now that all files are checked."""
        return self.as_json().items() <= self.recorded.items()

    def as_json(self) -> dict[str, Any]:
        """Return what a record holds of it."""
        files = self.files
        return {
            "repository": self.listing.repository,
            "revision": self.listing.revision,
            "commit": self.listing.commit,
            "bytes": sum(file.bytes for file in files),
            "parts": self.parts,
            "files": {
                file.name: {
                    "bytes": file.bytes,
                    "sha256": self.sha256[file.name],
                    "blob": file.blob,
                }
                for file in sorted(files, key=lambda file: file.name)
            },
        }


def plan(asked: Sequence[HubRequest], *, anew: bool) -> Plan:
    """Ask the hub what there is of a repository, and compare it with what is here.

    Args:
        asked: the model, or SAEs, of one repository at one revision.
        anew: whether to look into files whose hashes an earlier fetch has compared.

    Raises:
        AtpError: the repository, or a file that is needed, cannot be had.
    """
    found = listing(asked[0].repository, asked[0].revision)
    parts = {
        each.part: sae_files(found, each.published) if each.published else model_files(found)
        for each in asked
    }
    record = read_record(found.repository, found.revision) or {"parts": {}, "files": {}}
    known = record["files"]
    planned = Plan(found, parts, record)
    for part, names in record["parts"].items():
        if part in parts or (part == MODEL and record["commit"] != found.commit):
            continue  # a later commit may have more files of a model
        # One revision is one commit: what was fetched before goes along if it has not changed.
        if all(_same(known.get(name), found.files.get(name)) for name in names):
            parts[part] = names
        else:
            log.warning("fetch.outdated", repository=found.repository, part=part)
    for file in planned.files:
        if not anew and is_here(found, file) and _same(known.get(file.name), file):
            planned.sha256[file.name] = known[file.name]["sha256"]
    return planned


def _same(recorded: dict[str, Any] | None, file: HubFile | None) -> bool:
    return recorded is not None and file is not None and recorded["blob"] == file.blob
