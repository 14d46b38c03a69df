"""Downloads one file of the hub into its place in the hub cache; resumes, and checks its hash.

The hub's own client starts a file again when its process ended in the middle. So the bytes come
over plain HTTP here, into the cache layout of that client (blobs, snapshots).
"""

from __future__ import annotations

import hashlib
import os
from typing import IO, TYPE_CHECKING

import httpx2
from huggingface_hub import constants, get_session, hf_raise_for_status
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # is lazy

from atp.errors import UnavailableError
from atp.model.hub import errors
from atp.model.hub.errors import HUB_ERRORS, RESUME_HINT, TRIES
from atp.model.hub_cache import file_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from atp.model.hub.listing import HubFile, Listing

CHUNK_BYTES = 1 << 20
PARTIAL_CONTENT = 206


class Hashes:
    """The hashes of a file's content: sha256, and git's where the hub has no other."""

    def __init__(self, file: HubFile) -> None:
        self.file = file
        self.bytes = 0
        self._sha256 = hashlib.sha256()
        self._git = hashlib.sha1(b"blob %d\0" % file.bytes, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        """Add more of the content."""
        self.bytes += len(data)
        self._sha256.update(data)
        if self.file.sha256 is None:
            self._git.update(data)

    def update_from(self, content: IO[bytes]) -> None:
        """Add the rest of an open file."""
        while data := content.read(CHUNK_BYTES):
            self.update(data)

    @property
    def sha256(self) -> str:
        """Of the content so far."""
        return self._sha256.hexdigest()

    @property
    def match(self) -> bool:
        """Whether this is the content that the hub has."""
        own = self._git.hexdigest() if self.file.sha256 is None else self.sha256
        return self.bytes == self.file.bytes and own == self.file.blob


def is_here(listing: Listing, file: HubFile) -> bool:
    """Say whether a file is in its place, with its size."""
    return file_bytes(listing.pointer(file.name)) == file.bytes


def missing_bytes(listing: Listing, file: HubFile) -> int:
    """Return how many bytes of a file have to be downloaded."""
    blob = listing.blob(file)
    if is_here(listing, file) or file_bytes(blob) == file.bytes:
        return 0
    return max(0, file.bytes - (file_bytes(partial_path(blob)) or 0))


def partial_path(blob: Path) -> Path:
    """Return the path of the first bytes of a file until it is whole."""
    return blob.with_name(f"{blob.name}.incomplete")


def download(listing: Listing, file: HubFile, arrived: Callable[[int], None]) -> str:
    """Put a file in its place, whole and checked, and return its sha256.

    A file that is there already is only checked. `arrived` is called with the number of new bytes,
    negative where bytes are dropped. A file that cannot be written raises OSError.
    """
    pointer, blob = listing.pointer(file.name), listing.blob(file)
    for path in (pointer, blob):
        if file_bytes(path) == file.bytes:
            hashes = Hashes(file)
            with path.open("rb") as content:
                hashes.update_from(content)
            if hashes.match:
                if path == blob:
                    _point(pointer, blob)
                return hashes.sha256
        path.unlink(missing_ok=True)  # damaged, or a link to nothing
    blob.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(blob)
    # Unbuffered: a signal that ends the process loses no byte that has come.
    with partial.open("a+b", buffering=0) as out:
        out.seek(0)
        hashes = _complete(listing, file, out, arrived)
        os.fsync(out.fileno())
    if not hashes.match:
        partial.unlink()
        msg = f"{file.name} of {listing.repository} came damaged: its hash is not the hub's."
        hint = "It was removed: run the same command again. If that does not help, a proxy may "
        raise UnavailableError(msg, f"{hint}change what it passes on.")
    partial.replace(blob)
    _point(pointer, blob)
    return hashes.sha256


def _complete(
    listing: Listing, file: HubFile, out: IO[bytes], arrived: Callable[[int], None]
) -> Hashes:
    """Add the missing bytes to a partial file; transient errors are followed by another try."""
    hashes = Hashes(file)
    hashes.update_from(out)
    if hashes.bytes > file.bytes:
        out.truncate(0)
        hashes = Hashes(file)
    # Only a new maximum is progress: a server that never resumes and always breaks off would
    # otherwise be asked without an end.
    most_bytes, failed = hashes.bytes, 0
    while hashes.bytes < file.bytes:
        error: Exception | None = None
        try:
            for offset, chunk in _stream(listing.url(file.name), hashes.bytes):
                if offset != hashes.bytes:  # the server does not resume: it sends the whole
                    arrived(-hashes.bytes)
                    out.truncate(0)
                    hashes = Hashes(file)
                out.write(chunk)
                hashes.update(chunk)
                arrived(len(chunk))
                if hashes.bytes > file.bytes:  # another file: the rest does not matter
                    break
        except HUB_ERRORS as caught:
            if not errors.is_transient(caught):
                raise errors.hub_error(listing.repository, listing.revision, caught) from caught
            error = caught
        failed = 1 if hashes.bytes > most_bytes else failed + 1
        most_bytes = max(most_bytes, hashes.bytes)
        if hashes.bytes < file.bytes:
            error = error or httpx2.RemoteProtocolError("the answer was too short")
            if failed == TRIES:
                msg = f"{file.name} of {listing.repository} broke off {TRIES} times in a row at "
                msg += f"{hashes.bytes:,} of {file.bytes:,} bytes: {errors.reason(error)}."
                raise UnavailableError(msg, RESUME_HINT) from error
            errors.wait(f"{listing.repository}: {file.name}", failed, error)
    return hashes


def _stream(url: str, start: int) -> Iterator[tuple[int, bytes]]:
    """Yield a file's bytes from `start` on, or all, each chunk with its offset."""
    headers = build_hf_headers()
    headers["Accept-Encoding"] = "identity"  # a part of a compressed file would be of no use
    if start:
        headers["Range"] = f"bytes={start}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
        hf_raise_for_status(response)
        offset = start if response.status_code == PARTIAL_CONTENT else 0
        for chunk in response.iter_raw():  # as it comes: a chunk size would hold bytes back
            yield offset, chunk
            offset += len(chunk)


def _point(pointer: Path, blob: Path) -> None:
    """Link a file of a snapshot to the blob; where links are not possible, move the blob there."""
    pointer.parent.mkdir(parents=True, exist_ok=True)
    pointer.unlink(missing_ok=True)
    try:
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    except FileExistsError:  # another process was as fast, with the same content
        return
    except OSError:
        blob.replace(pointer)
