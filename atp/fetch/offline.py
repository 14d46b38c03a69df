"""A fetch without the hub: it compares the records with the files in the cache."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from huggingface_hub import constants

from atp.errors import UnavailableError
from atp.model.hub.records import valid_record
from atp.model.hub_cache import cached_folder
from atp.model.provenance import sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from atp.model.hub.records import HubRequest

log = structlog.get_logger()


def check_cache(requests: Sequence[HubRequest], *, fresh: bool) -> None:
    """Raise UnavailableError if a file is missing or has another size; if fresh, another hash."""
    began = time.monotonic()
    checked: set[Path] = set()
    for request in requests:
        record = valid_record(request)
        folder = cached_folder(request.repository, request.revision)
        if record is None or folder is None:
            msg = f"{request.name} was not fetched to {constants.HF_HUB_CACHE}, or is not all "
            msg += "there, and HF_HUB_OFFLINE is set."
            raise UnavailableError(msg, "Unset it for atp fetch.")
        for name in record["parts"][request.part]:
            path = folder / name
            if fresh and path not in checked and sha256_of(path) != record["files"][name]["sha256"]:
                msg = f"{path} is not what was fetched: its sha256 differs from the record's."
                hint = "Unset HF_HUB_OFFLINE and run the same command again."
                raise UnavailableError(msg, hint)
            checked.add(path)
    seconds = round(time.monotonic() - began, 1)
    log.info("fetch.done", files=len(checked), fetched_bytes=0, seconds=seconds)
