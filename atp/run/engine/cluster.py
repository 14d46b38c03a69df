"""The Ray cluster of a run: one that is there, or one on this machine that ends with the run."""

from __future__ import annotations

import os
import secrets
import signal
import socket
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
    from collections.abc import Iterator, Mapping, Sequence

    from atp.config.run import RunSettings

LOCAL = "local"
CONNECT_SECONDS = 10.0  # at the start
ANSWER_SECONDS = 1.0  # from then on
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
    sharing: int = 1
    """How many workers share the memory of a device at most."""


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
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        yield place(nodes, own, device)
    finally:
        if ours:
            ray.shutdown()


def answers(address: str) -> bool:
    """Say whether the head of a cluster, at HOST:PORT, accepts connections."""
    try:
        _connect(address, ANSWER_SECONDS)
    except OSError:
        return False
    return True


def _connect(address: str, seconds: float) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), seconds).close()


def require_ray() -> None:
    """Raise UnavailableError if Ray is not installed."""
    if find_spec("ray") is None:
        msg = "--engine=ray needs Ray, which is not installed."
        raise UnavailableError(msg, "Install it: pip install 'atp-sycophancy[ray]'")


def _imported(address: str) -> Any:  # noqa: ANN401  (a module, typed in part)
    """Return the module ray; it reads these variables as it is imported."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == LOCAL and "ray" not in sys.modules:
        # As on Windows and macOS: the loopback interface alone. Ray would look for others, and
        # print a warning where there is no network.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        if "RAY_AUTH_MODE" not in os.environ:
            # Only this process and its workers know it; Ray would leave one in the home folder.
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
        if import_module("torch").version.cuda is None:
            how["num_gpus"] = 0  # Ray would count those that this torch cannot use
    variable = os.environ.pop("RAY_ADDRESS", None)  # Ray would prefer it to `auto`
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    start = partial(ray.init, address=address, log_to_driver=False, logging_level="ERROR", **how)
    try:
        if ":" in address:  # Ray would try for minutes
            _connect(address, CONNECT_SECONDS)
        try:
            start()
        except Exception:  # noqa: BLE001  (Ray raises what it likes)
            start()  # Ray waits for half a minute only, which a busy machine may need twice
    except Exception as error:  # Ray raises what it likes
        where, hint = f"the cluster at {address}", "Look at `ray status`; if it has a token, set "
        hint += "RAY_AUTH_MODE=token here, too."
        if address == LOCAL:
            where, hint = "a Ray cluster on this machine", "Look at /tmp/ray/session_latest."
        msg = f"{where} cannot be used: {' '.join(str(error).split())[:300]}"
        raise UnavailableError(msg, hint) from error
    finally:
        if variable is not None:
            os.environ["RAY_ADDRESS"] = variable
        for number, handler in handlers.items():  # Ray sets its own
            signal.signal(number, handler)


def place(nodes: Sequence[Mapping[str, float]], own: RunSettings, device: str | None) -> Places:
    """Place workers on nodes, by the resources of each: a worker cannot be spread over two."""

    def room_for(**each: int) -> int:
        return sum(min(int(node.get(kind, 0)) // n for kind, n in each.items()) for node in nodes)

    gpus = room_for(GPU=1)
    if device == "cpu" or (device is None and not gpus and own.gpus_per_worker == 1):
        workers = own.workers or 1
        largest = max(int(node.get("CPU", 1)) for node in nodes)
        fitting = (cpus for cpus in range(largest, 0, -1) if room_for(CPU=cpus) >= workers)
        each = next(fitting, 1)
        there = room_for(CPU=each)
        found = Places(workers, "cpu", each, 0, sharing=min(workers, largest // each))
    else:
        if own.cluster is None:
            own.check_gpus(gpus)
        there = room_for(GPU=own.gpus_per_worker, CPU=1)
        found = Places(own.workers_on(there), "cuda", 1, own.gpus_per_worker)
    if there < found.workers:  # the cluster may grow
        log.warning("workers.waiting", workers=found.workers, places=there)
    return found
