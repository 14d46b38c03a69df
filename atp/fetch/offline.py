"""A fetch that may not ask the hub: it compares what was recorded with what is there."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

import structlog
from huggingface_hub import constants

from atp.errors import UnavailableError
from atp.model.hub.records import valid_record
from atp.model.hub_cache import cached_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from atp.model.hub.records import HubRequest

log = structlog.get_logger()


def check_here(asked: Sequence[HubRequest], *, anew: bool) -> None:
    """Make sure that everything was fetched and is there.

    Args:
        asked: what a run needs of the hub.
        anew: whether to compare the hashes of the files too, not their sizes alone.

    Raises:
        UnavailableError: something is missing, or has changed.
    """
    began = time.monotonic()
    seen: set[Path] = set()
    for each in asked:
        record, folder = valid_record(each), cached_folder(each.repository, each.revision)
        if record is None or folder is None:
            msg = f"{each.name} was not fetched to {constants.HF_HUB_CACHE}, or is not all there, "
            msg += "and HF_HUB_OFFLINE is set."
            raise UnavailableError(msg, "Unset it for atp fetch.")
        for name in record["parts"][each.part]:
            if anew and folder / name not in seen:
                _compare(folder / name, record["files"][name])
            seen.add(folder / name)
    log.info(
        "fetch.done", files=len(seen), fetched_bytes=0, seconds=round(time.monotonic() - began, 1)
    )


def _compare(path: Path, told: dict[str, Any]) -> None:
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != told["sha256"]:
            msg = f"{path} is not what was fetched: its sha256 differs from the record's."
            raise UnavailableError(msg, "Unset HF_HUB_OFFLINE and start the same command again.")
