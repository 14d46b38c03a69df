"""One file of the hub into its place in the hub cache: resumed, hashed as it comes.

The hub's own client begins a file anew when its process ends in the middle, so the bytes are
brought here, over plain HTTP. The cache is laid out as that client lays it out (blobs, snapshots).
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from typing import IO, TYPE_CHECKING

import httpx2
from huggingface_hub import constants, get_session, hf_raise_for_status
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # is lazy

from atp.errors import UnavailableError
from atp.model.hub.errors import ANSWERS, TRIES, hub_error, is_transient, reason, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from atp.model.hub.listing import HubFile, Listing

CHUNK = 1 << 20
"""Bytes that are read from the disk at a time."""
PARTIAL_CONTENT = 206


class Hashes:
    """What a file's content is known by: its sha256, and git's hash of it."""

    def __init__(self, file: HubFile) -> None:
        self.file = file
        self.bytes = 0
        self._sha256 = hashlib.sha256()
        self._git = hashlib.sha1(b"blob %d\0" % file.bytes, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        """Take more of the content."""
        self.bytes += len(data)
        self._sha256.update(data)
        if self.file.sha256 is None:
            self._git.update(data)

    @property
    def sha256(self) -> str:
        """That of the content so far."""
        return self._sha256.hexdigest()

    @property
    def right(self) -> bool:
        """Whether this is the content that the hub has."""
        found = self._git.hexdigest() if self.file.sha256 is None else self.sha256
        return self.bytes == self.file.bytes and found == self.file.blob


def is_here(listing: Listing, file: HubFile) -> bool:
    """Say whether a file is in its place, in its size."""
    return _size(listing.pointer(file.name)) == file.bytes


def missing_bytes(listing: Listing, file: HubFile) -> int:
    """Return how many bytes of a file have to come."""
    blob = listing.blob(file)
    if is_here(listing, file) or _size(blob) == file.bytes:
        return 0
    return max(0, file.bytes - (_size(partial(blob)) or 0))


def partial(blob: Path) -> Path:
    """Return where the first bytes of a file wait for the others."""
    return blob.with_name(f"{blob.name}.incomplete")


def bring(listing: Listing, file: HubFile, arrived: Callable[[int], None]) -> str:
    """Have a file in its place, whole and checked; what is there already is only checked.

    Args:
        listing: of its repository.
        file: what to bring.
        arrived: is told how many bytes have come; fewer than none when they are thrown away.

    Returns:
        The sha256 of its content.

    Raises:
        UnavailableError: it cannot be had, or its content is not what the hub says it is.
        OSError: it cannot be written.
    """
    pointer, blob = listing.pointer(file.name), listing.blob(file)
    for path in (pointer, blob):
        if _size(path) == file.bytes:
            hashes = Hashes(file)
            with path.open("rb") as content:
                _feed(hashes, content)
            if hashes.right:
                if path == blob:
                    _point(pointer, blob)
                return hashes.sha256
        if os.path.lexists(path):  # not what it should be, or a link to nothing
            path.unlink()
    return _fetch(listing, file, arrived)


def _fetch(listing: Listing, file: HubFile, arrived: Callable[[int], None]) -> str:
    blob = listing.blob(file)
    blob.parent.mkdir(parents=True, exist_ok=True)
    part = partial(blob)
    # Unbuffered: what has come is on its way to the disk when a signal ends the process.
    with part.open("a+b", buffering=0) as out:
        out.seek(0)
        hashes = _complete(listing, file, out, arrived)
        os.fsync(out.fileno())
    if not hashes.right:
        part.unlink()
        msg = f"{file.name} of {listing.repository} came damaged: its hash is not the hub's."
        hint = (
            "It was removed: start the same command again; if that does not help, a proxy may be "
        )
        raise UnavailableError(msg, f"{hint}changing what it passes on.")
    part.replace(blob)
    _point(listing.pointer(file.name), blob)
    return hashes.sha256


def _complete(
    listing: Listing, file: HubFile, out: IO[bytes], arrived: Callable[[int], None]
) -> Hashes:
    """Add to a partial file what it lacks; failures that may pass are tried again."""
    hashes = Hashes(file)
    _feed(hashes, out)
    if hashes.bytes > file.bytes:
        hashes = _start_anew(file, out)
    most, failed = hashes.bytes, 0
    while hashes.bytes < file.bytes:
        error: Exception | None = None
        try:
            for offset, chunk in _stream(listing.url(file.name), hashes.bytes):
                if offset != hashes.bytes:  # the server does not resume: it sends the whole
                    arrived(-hashes.bytes)
                    hashes = _start_anew(file, out)
                out.write(chunk)
                hashes.update(chunk)
                arrived(len(chunk))
                if hashes.bytes > file.bytes:  # never mind the rest: it is another file
                    break
        except ANSWERS as caught:
            if not is_transient(caught):
                raise hub_error(listing.repository, listing.revision, caught) from caught
            error = caught
        failed = 1 if hashes.bytes > most else failed + 1
        most = max(most, hashes.bytes)
        if hashes.bytes < file.bytes:
            error = error or httpx2.RemoteProtocolError("the answer was too short")
            if failed == TRIES:
                msg = f"{file.name} of {listing.repository} broke off {TRIES} times in a row at "
                msg += f"{hashes.bytes:,} of {file.bytes:,} bytes: {reason(error)}."
                hint = "What has come stays: start the same command again, and it goes on."
                raise UnavailableError(msg, hint) from error
            wait(f"{listing.repository}: {file.name}", failed, error)
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
        for chunk in response.iter_raw():  # as it comes: a size would hold bytes back
            yield offset, chunk
            offset += len(chunk)


def _feed(hashes: Hashes, content: IO[bytes]) -> None:
    while data := content.read(CHUNK):
        hashes.update(data)


def _start_anew(file: HubFile, out: IO[bytes]) -> Hashes:
    out.truncate(0)
    return Hashes(file)


def _point(pointer: Path, blob: Path) -> None:
    """Make a file of a snapshot the blob's content: a link, or where there are none, a move."""
    pointer.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        pointer.unlink()
    try:
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    except FileExistsError:  # another process was as fast, with the same content
        return
    except OSError:
        blob.replace(pointer)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None
