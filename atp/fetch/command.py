"""`atp fetch`: asks the hub what a run needs, checks the space, brings it, proves and records it.

How a file comes is for atp/model/hub/download.py; what is to come, for plan.py.
"""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import structlog
from filelock import FileLock, Timeout
from huggingface_hub import constants

from atp import __version__
from atp.dataset.atomic import atomic_write, not_written
from atp.errors import StoppedError, UnavailableError
from atp.fetch.offline import check_here
from atp.fetch.plan import plan
from atp.fetch.progress import Progress
from atp.model.hub.download import bring
from atp.model.hub.records import hub_requests, record_path, valid_record
from atp.model.hub_cache import repository_folder
from atp.run import setup

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from atp.config.settings import Settings
    from atp.fetch.plan import Plan
    from atp.model.hub.records import HubRequest
    from atp.runtime.signals import StopRequest

AGAIN = "Start the same command again, and it goes on."

log = structlog.get_logger()


def fetch(settings: Settings, stop: StopRequest) -> list[Path]:
    """Bring all that a run with these settings reads of the hub into its cache.

    Args:
        settings: of the run; `fresh` compares files again that an earlier fetch has compared.
        stop: where signals ask for a stop.

    Returns:
        The records: one for each repository at a revision.

    Raises:
        AtpError: something cannot be had, or the cache cannot be written; what has come stays.
    """
    specs = setup.check_names(settings)
    asked = hub_requests(settings.model, settings.revision, specs)
    names = {each.name for each in asked}
    if local := [name for name in (settings.model, *specs) if name not in names]:
        log.info("fetch.local", names=local)
    groups = [
        list(group)
        for _, group in groupby(
            sorted(asked, key=attrgetter("repository", "revision")),
            key=attrgetter("repository", "revision"),
        )
    ]
    if constants.is_offline_mode():
        check_here(asked, anew=settings.fresh)
    else:
        with stop.unwinding(), _told_when_stopped(stop), ExitStack() as held:
            for repository in sorted({each.repository for each in asked}):
                held.enter_context(_one_at_a_time(repository))
            _bring_all(groups, anew=settings.fresh)
    return [record_path(group[0].repository, group[0].revision) for group in groups]


def _bring_all(groups: Sequence[Sequence[HubRequest]], *, anew: bool) -> None:
    began = time.monotonic()
    plans = [plan(group, anew=anew) for group in groups]
    missing = sum(each.missing for each in plans)
    _check_space(missing)
    log.info(
        "fetch.start",
        commits={each.listing.repository: each.listing.commit for each in plans},
        files=sum(len(each.files) for each in plans),
        bytes=sum(file.bytes for each in plans for file in each.files),
        missing_bytes=missing,
        cache=constants.HF_HUB_CACHE,
    )
    for each in plans:
        if each.missing:
            each.listing.check_access()
    with Progress(missing) as progress:
        for each in plans:
            _bring(each, progress)
    renewed = [
        (group, each)
        for group, each in zip(groups, plans, strict=True)
        if anew or not each.is_recorded or any(valid_record(one) is None for one in group)
    ]
    with ExitStack() as undo:
        for _, each in renewed:
            ref = _ref(each)
            undo.callback(_point_back, ref, ref.read_bytes() if ref.is_file() else None)
            _point(each)
        if renewed:
            from atp.model.hub.verify import verify_offline_load  # noqa: PLC0415  (imports torch: after all has come)

            verify_offline_load([one for group, _ in renewed for one in group])
        for _, each in renewed:
            _record(each)
        undo.pop_all()  # all went well: nothing is undone
    log.info(
        "fetch.done",
        files=sum(len(each.files) for each in plans),
        fetched_bytes=progress.done,
        seconds=round(time.monotonic() - began, 1),
    )


def _bring(planned: Plan, progress: Progress) -> None:
    listing = planned.listing
    for file in planned.open:
        before = progress.done
        try:
            sha256 = bring(listing, file, progress.arrived)
        except OSError as error:
            needed = file.bytes
            raise not_written(listing.blob(file), error, needed=needed, hint=AGAIN) from error
        planned.sha256[file.name] = sha256
        log.info(
            "fetch.file",
            repository=listing.repository,
            file=file.name,
            bytes=file.bytes,
            fetched_bytes=progress.done - before,
            sha256=sha256,
        )


def _point(planned: Plan) -> None:
    """Make the revision mean, in the cache, the commit that is whole there now."""
    if planned.listing.revision != planned.listing.commit:
        _write(_ref(planned), planned.listing.commit.encode())


def _ref(planned: Plan) -> Path:
    return repository_folder(planned.listing.repository) / "refs" / planned.listing.revision


def _point_back(ref: Path, before: bytes | None) -> None:
    """Let a revision mean what it did before: what has come since cannot be used."""
    if before is not None:
        _write(ref, before)
    else:
        ref.unlink(missing_ok=True)


def _record(planned: Plan) -> None:
    listing = planned.listing
    content = {
        "atp": __version__,
        "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
        **planned.as_json(),
    }
    path = record_path(listing.repository, listing.revision)
    _write(path, orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_written(path, error, hint=AGAIN) from error
    with atomic_write(path, needed=len(content)) as file:
        file.write(content)


def _check_space(missing: int) -> None:
    """Make sure that the disk of the cache has room, before a byte comes."""
    cache = Path(constants.HF_HUB_CACHE).absolute()
    there = next(path for path in (cache, *cache.parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if missing > free:
        msg = f"{missing:,} bytes have to come to {cache}, {free:,} bytes are free."
        raise UnavailableError(msg, "Free some, or set HF_HOME to another disk.")


@contextmanager
def _one_at_a_time(repository: str) -> Iterator[None]:
    """Have no other fetch at a repository; waits for one that is."""
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
        raise not_written(path, error, hint=AGAIN) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _told_when_stopped(stop: StopRequest) -> Iterator[None]:
    """Say in one line that a signal has ended the fetch."""
    try:
        yield
    except SystemExit as left:
        if stop.exit_code is None:  # not of a signal
            raise
        msg = "the fetch was stopped; what has come stays."
        raise StoppedError(stop.exit_code, msg, AGAIN) from left
