"""What the hub has of a repository at a revision: commit, files, their sizes and hashes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from huggingface_hub import HfApi, constants, get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # is lazy

from atp.errors import UnavailableError
from atp.model.hub.errors import endpoint, with_retries
from atp.model.hub_cache import repository_folder

if TYPE_CHECKING:
    from pathlib import Path

    from huggingface_hub.hf_api import ModelInfo

MAIN = constants.DEFAULT_REVISION


@dataclass(frozen=True)
class HubFile:
    """A file of a repository."""

    name: str
    """With its folders, from the repository's root."""
    bytes: int
    blob: str
    """What the cache calls its content: its sha256 where the hub tells it, else git's hash."""
    sha256: str | None
    """None for a small file, of which the hub knows git's hash alone."""


@dataclass(frozen=True)
class Listing:
    """A repository at the commit that a revision means now."""

    repository: str
    revision: str
    commit: str
    gated: bool
    """Its files are for those who have accepted a licence."""
    files: dict[str, HubFile]

    def url(self, name: str) -> str:
        """Return where a file is."""
        commit, endpoint = self.commit, constants.ENDPOINT
        return hf_hub_url(self.repository, name, revision=commit, endpoint=endpoint)

    def blob(self, file: HubFile) -> Path:
        """Return where the cache has the content of a file, or would."""
        return repository_folder(self.repository) / "blobs" / file.blob

    def pointer(self, name: str) -> Path:
        """Return where the libraries look for a file in the cache."""
        return repository_folder(self.repository) / "snapshots" / self.commit / name

    def read(self, name: str) -> bytes:
        """Return the content of a small file, from the cache or from the hub.

        Raises:
            UnavailableError: it cannot be had.
        """
        if self.pointer(name).is_file():
            return self.pointer(name).read_bytes()
        return with_retries(self.repository, self.revision, partial(self._get, name))

    def check_access(self) -> None:
        """Make sure that the files may be read, before gigabytes of another repository come.

        Raises:
            UnavailableError: they may not: the licence, or the token.
        """
        if self.gated:
            with_retries(
                self.repository, self.revision, partial(_api().auth_check, self.repository)
            )

    def _get(self, name: str) -> bytes:
        response = get_session().get(
            self.url(name),
            headers=build_hf_headers(),
            timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        )
        hf_raise_for_status(response)
        return response.content


def listing(repository: str, revision: str) -> Listing:
    """Ask the hub, once, what it has of a repository.

    Args:
        repository: owner/name.
        revision: a branch, tag or commit.

    Raises:
        UnavailableError: no such repository or revision, no access, no network; says which.
    """

    def ask() -> ModelInfo:
        return _api().model_info(
            repository,
            revision=revision,
            files_metadata=True,
            timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        )

    info = with_retries(repository, revision, ask)
    files = [
        HubFile(
            each.rfilename,
            each.lfs.size if each.lfs else -1 if each.size is None else each.size,
            each.lfs.sha256 if each.lfs else each.blob_id or "",
            each.lfs.sha256 if each.lfs else None,
        )
        for each in info.siblings or ()
    ]
    for what, sound in (
        (f"the commit of {repository}", _is_hash(info.sha, 40)),
        *((f"name, size and hash of {file.name!r:.80}", _is_sound(file)) for file in files),
    ):
        if not sound:
            msg = f"{endpoint()} does not tell {what}, as a hub does."
            raise UnavailableError(msg, "Set HF_ENDPOINT to one that does.")
    return Listing(
        repository, revision, str(info.sha), bool(info.gated), {file.name: file for file in files}
    )


def _is_sound(file: HubFile) -> bool:
    """Say whether a file can be what it says: names and hashes become paths of this machine."""
    parts = file.name.split("/") if isinstance(file.name, str) else [""]
    return (
        not {"", ".", ".."} & set(parts)
        and all(part.isprintable() for part in parts)
        and type(file.bytes) is int
        and file.bytes >= 0
        and _is_hash(file.blob, 40 if file.sha256 is None else 64)
    )


def _is_hash(text: object, digits: int) -> bool:
    return isinstance(text, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", text) is not None


def _api() -> HfApi:
    return HfApi(endpoint=constants.ENDPOINT)
