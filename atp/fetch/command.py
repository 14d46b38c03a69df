"""`atp fetch`: asks the hub for the files of a run, downloads, verifies and records them."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import structlog
from filelock import FileLock, Timeout
from huggingface_hub import constants

from atp import __version__
from atp.dataset.atomic import atomic_write, not_written
from atp.errors import StoppedError, UnavailableError
from atp.fetch.plan import plan_repository
from atp.fetch.progress import Progress
from atp.model.hub.download import download
from atp.model.hub.errors import RESUME_HINT
from atp.model.hub.records import hub_requests, record_path, valid_record
from atp.model.hub_cache import cached_folder, repository_folder
from atp.model.provenance import sha256_of
from atp.run import setup
from atp.runtime.live import phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.config.settings import Settings
    from atp.fetch.plan import Plan
    from atp.model.hub.records import HubRequest
    from atp.runtime.signals import StopRequest

log = structlog.get_logger()


def fetch(settings: Settings, stop: StopRequest) -> list[Path]:
    """Download all that a run with these settings reads of the hub into its cache.

    With `fresh`, files are checked again that an earlier fetch has checked. Downloaded bytes stay
    after an error. Returns the paths of the records: one for each repository at a revision.
    """
    specs = setup.check_names(settings)
    requests = hub_requests(settings.model, settings.revision, specs)
    names = {request.name for request in requests}
    if local := [name for name in (settings.model, *specs) if name not in names]:
        log.info("fetch.local", names=local)
    by_revision: dict[tuple[str, str], list[HubRequest]] = {}
    for request in sorted(requests, key=lambda request: (request.repository, request.revision)):
        by_revision.setdefault((request.repository, request.revision), []).append(request)
    if constants.is_offline_mode():
        _check_cache(requests, fresh=settings.fresh)
    else:
        repositories = dict.fromkeys(repository for repository, _ in by_revision)
        try:
            with stop.unwinding(), ExitStack() as locks:
                for repository in repositories:
                    locks.callback(_lock(repository).release)
                _fetch(list(by_revision.values()), fresh=settings.fresh)
        except SystemExit as left:
            if stop.exit_code is None:  # not of a signal
                raise
            msg = "the fetch was stopped; all downloaded bytes are kept."
            raise StoppedError(stop.exit_code, msg, RESUME_HINT) from left
    return [record_path(repository, revision) for repository, revision in by_revision]


def _check_cache(requests: Sequence[HubRequest], *, fresh: bool) -> None:
    """Compare the records with the sizes of the files in the cache; if fresh, with the hashes."""
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


def _fetch(groups: Sequence[Sequence[HubRequest]], *, fresh: bool) -> None:
    began = time.monotonic()
    plans = [plan_repository(group, fresh=fresh) for group in groups]
    missing = sum(plan.missing_bytes for plan in plans)
    _check_space(missing)
    log.info(
        "fetch.start",
        commits={plan.listing.repository: plan.listing.commit for plan in plans},
        files=sum(len(plan.files) for plan in plans),
        bytes=sum(file.bytes for plan in plans for file in plan.files),
        missing_bytes=missing,
        cache=constants.HF_HUB_CACHE,
    )
    for plan in plans:  # first of all: gigabytes of another repository would come in vain
        if plan.missing_bytes:
            plan.listing.check_access()
    with phase("downloading", missing, unit="bytes") as line:
        progress = Progress(missing, line.advance)
        for plan in plans:
            _download(plan, progress)
    _verify_and_record([plan for plan in plans if fresh or plan.needs_record])
    log.info(
        "fetch.done",
        files=sum(len(plan.files) for plan in plans),
        fetched_bytes=progress.done,
        seconds=round(time.monotonic() - began, 1),
    )


def _download(plan: Plan, progress: Progress) -> None:
    listing = plan.listing
    for file in plan.unchecked:
        before = progress.done
        try:
            sha256 = download(listing, file, progress.arrived)
        except OSError as error:
            blob = listing.blob(file)
            raise not_written(blob, error, needed=file.bytes, hint=RESUME_HINT) from error
        plan.sha256[file.name] = sha256
        log.info(
            "fetch.file",
            repository=listing.repository,
            file=file.name,
            bytes=file.bytes,
            fetched_bytes=progress.done - before,
            sha256=sha256,
        )


def _verify_and_record(plans: Sequence[Plan]) -> None:
    """Load what was downloaded as a run would, and record it.

    The loaders find a commit by its revision, so each revision must mean the new commit first. If a
    loader fails, every revision gets back the commit that it had: an earlier fetch stays usable.
    """
    if not plans:
        return
    with ExitStack() as undo:
        for plan in plans:
            listing = plan.listing
            ref = repository_folder(listing.repository) / "refs" / listing.revision
            undo.callback(_restore, ref, ref.read_bytes() if ref.is_file() else None)
            if listing.revision != listing.commit:
                _write(ref, listing.commit.encode())
        from atp.model.hub.verify import verify_offline_load  # noqa: PLC0415  (imports torch: last)

        with phase("reading the files as a run does"):
            verify_offline_load([request for plan in plans for request in plan.requests])
        for plan in plans:
            content = {
                "atp": __version__,
                "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
                **plan.as_json(),
            }
            path = record_path(plan.listing.repository, plan.listing.revision)
            _write(path, orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
        undo.pop_all()


def _restore(ref: Path, content: bytes | None) -> None:
    if content is not None:
        _write(ref, content)
    else:
        ref.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_written(path, error, hint=RESUME_HINT) from error
    with atomic_write(path, needed=len(content)) as file:
        file.write(content)


def _check_space(missing: int) -> None:
    cache = Path(constants.HF_HUB_CACHE).absolute()
    folder = next(path for path in (cache, *cache.parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    if missing > free:
        msg = f"{missing:,} bytes have to come to {cache}, {free:,} bytes are free."
        raise UnavailableError(msg, "Free some, or set HF_HOME to another disk.")


def _lock(repository: str) -> FileLock:
    """Keep other fetches from a repository; waits for one that is at work there."""
    path = repository_folder(repository) / "atp" / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("fetch.wait", repository=repository)
            lock.acquire()
    except OSError as error:
        raise not_written(path, error, hint=RESUME_HINT) from error
    return lock
