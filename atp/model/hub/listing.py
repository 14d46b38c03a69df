"""Listing: the files of a hub repository at the commit of a revision, their sizes and hashes."""

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

    from huggingface_hub.hf_api import RepoSibling


@dataclass(frozen=True)
class HubFile:
    """A file of a repository; its name has its folders, from the root."""

    name: str
    bytes: int
    blob: str
    """The name of its content in the cache: its sha256, or git's hash of a small file."""
    sha256: str | None


@dataclass(frozen=True)
class Listing:
    """A repository at the commit that a revision means now."""

    repository: str
    revision: str
    commit: str
    gated: bool
    files: dict[str, HubFile]

    def url(self, name: str) -> str:
        """Return the address of a file."""
        return hf_hub_url(self.repository, name, revision=self.commit, endpoint=constants.ENDPOINT)

    def blob(self, file: HubFile) -> Path:
        """Return the path of a file's content in the cache."""
        return repository_folder(self.repository) / "blobs" / file.blob

    def pointer(self, name: str) -> Path:
        """Return the path where the libraries look for a file in the cache."""
        return repository_folder(self.repository) / "snapshots" / self.commit / name

    def read(self, name: str) -> bytes:
        """Return the content of a small file, from the cache or from the hub."""
        if self.pointer(name).is_file():
            return self.pointer(name).read_bytes()
        return with_retries(self.repository, self.revision, partial(_download, self.url(name)))

    def check_access(self) -> None:
        """Raise UnavailableError if the licence or the token is missing."""
        if self.gated:
            request = partial(HfApi(constants.ENDPOINT).auth_check, self.repository)
            with_retries(self.repository, self.revision, request)


def list_repository(repository: str, revision: str) -> Listing:
    """Ask the hub for the files of a repository, by one request."""
    request = partial(
        HfApi(constants.ENDPOINT).model_info,
        repository,
        revision=revision,
        files_metadata=True,
        timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
    )
    info = with_retries(repository, revision, request)
    files = [_hub_file(sibling) for sibling in info.siblings or ()]
    for what, is_sound in (
        (f"the commit of {repository}", _is_hash(info.sha, 40)),
        *((f"name, size and hash of {file.name!r:.80}", _is_sound(file)) for file in files),
    ):
        if not is_sound:
            msg = f"{endpoint()} does not tell {what}, as a hub does."
            raise UnavailableError(msg, "Set HF_ENDPOINT to one that does.")
    by_name = {file.name: file for file in files}
    return Listing(repository, revision, str(info.sha), bool(info.gated), by_name)


def _hub_file(sibling: RepoSibling) -> HubFile:
    name, large = sibling.rfilename, sibling.lfs
    if large:
        return HubFile(name, large.size, large.sha256, large.sha256)
    return HubFile(name, -1 if sibling.size is None else sibling.size, sibling.blob_id or "", None)


def _is_sound(file: HubFile) -> bool:
    """Check name and hash, which become paths of this machine, and the size."""
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


def _download(url: str) -> bytes:
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    response = get_session().get(url, headers=build_hf_headers(), timeout=timeout)
    hf_raise_for_status(response)
    return response.content
