"""The Ray cluster of a run: one that is there, or one on this machine that ends with the run."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import structlog

from atp.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atp.config.run import RunSettings

LOCAL = "local"
STORE_BYTES = 512 << 20
"""The object store of a cluster of our own: it holds the means over base prompts, and vectors on
their way; results are smaller than what goes through it."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Places:
    """The workers that a cluster has place for."""

    workers: int
    device: str  # of each, "cpu" or "cuda"
    cpus: int  # of each
    gpus: int  # of each
    neighbours: int = 1
    """Workers that share the memory of their device at most."""


@contextmanager
def connected(own: RunSettings, device: str | None) -> Iterator[Places]:
    """Use a cluster while the context lasts; `device` is what the run's setting says.

    Raises SettingsError for more workers than a cluster of our own has GPUs, UnavailableError if
    Ray is not installed or no cluster answers.
    """
    require_ray()
    address = own.cluster or LOCAL
    ray = _imported(address)
    ours = not ray.is_initialized()
    if ours:
        _start(ray, address, own.workers or 1)
    try:
        yield _places(ray, address, own, device)
    finally:
        if ours:
            ray.shutdown()


def require_ray() -> None:
    """Raise UnavailableError if Ray is not installed."""
    if find_spec("ray") is None:
        msg = "--engine=ray needs Ray, which is not installed."
        raise UnavailableError(msg, "Install it: pip install 'atp-sycophancy[ray]'")


def _imported(address: str) -> Any:  # noqa: ANN401  (a module, typed in part)
    """Return the module ray; it reads these variables as it is imported."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own_token = "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ
    if address == LOCAL and own_token:
        # Only this process and its workers know the token; Ray would leave one in the home folder.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    ray = import_module("ray")
    # Ray prints what happens to workers on standard output, which is for results; the log tells it.
    vars(import_module("ray._private.worker"))["print_to_stdstream"] = lambda *_, **__: None
    return ray


def _start(ray: Any, address: str, workers: int) -> None:  # noqa: ANN401  (as above)
    how: dict[str, object] = {}
    if address == LOCAL:
        cores = import_module("ray._private.utils").get_num_cpus()  # heeds a container's limit
        how = {
            "num_cpus": max(cores, workers),
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
        }
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    start = partial(ray.init, address=address, log_to_driver=False, logging_level="ERROR", **how)
    try:
        try:
            start()
        except Exception:  # noqa: BLE001  (Ray raises what it likes)
            start()  # Ray waits for half a minute only, which a busy machine may need twice
    except Exception as error:  # Ray raises what it likes
        where = "a Ray cluster on this machine" if address == LOCAL else f"the cluster at {address}"
        reason = " ".join(str(error).split())[:300]
        msg = f"{where} cannot be used: {reason}"
        raise UnavailableError(
            msg, "Look at `ray status`, and at /tmp/ray/session_latest."
        ) from error
    finally:
        for number, handler in handlers.items():  # Ray sets its own
            signal.signal(number, handler)


def _places(
    ray: Any,  # noqa: ANN401  (as above)
    address: str,
    own: RunSettings,
    device: str | None,
) -> Places:
    there = ray.cluster_resources()
    cpus, gpus = int(there.get("CPU", 1)), int(there.get("GPU", 0))
    if device == "cpu" or (device is None and not gpus):
        workers = own.workers or 1
        largest = max(int(node["Resources"].get("CPU", 1)) for node in ray.nodes())
        each = max(1, min(cpus // workers, largest))
        return Places(workers, "cpu", each, 0, neighbours=min(workers, largest // each))
    if address == LOCAL:
        own.check_gpus(gpus)
    workers = own.workers_on(gpus)
    if (wanted := workers * own.gpus_per_worker) > gpus:  # the cluster may grow
        log.warning("workers.waiting", wanted_gpus=wanted, gpus=gpus)
    return Places(workers, "cuda", 1, own.gpus_per_worker)
