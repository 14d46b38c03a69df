"""A Ray cluster on this machine, in a process of its own: forks of a process that uses Ray hang.

The process prints the address of its cluster, loses a node for each line it reads, and ends when
its input does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

STORE = {"object_store_memory": 100 << 20}


@contextmanager
def started(*cpus: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield the address of a cluster, and what takes its last node away.

    Args:
        cpus: of each node, the head first.
    """
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ["RAY_AUTH_MODE"] = "disabled"  # of the drivers that are forked
    with subprocess.Popen(
        [sys.executable, __file__, *map(str, cpus)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin = process.stdin
        line = process.stdout.readline()
        assert line.startswith("address "), "the cluster has not started"

        def lose() -> None:
            stdin.write("lose\n")
            stdin.flush()

        try:
            yield line.split()[1], lose
        finally:
            stdin.close()
            os.environ.pop("RAY_AUTH_MODE", None)


def main() -> None:
    """Be the process of a cluster."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    head, *others = map(int, sys.argv[1:])

    def node(add: Callable[..., Any], **more: Any) -> Any:
        """Add a node; Ray waits for half a minute only, which a busy machine may need twice."""
        for _ in range(3):
            with suppress(Exception):
                return add(**STORE, **more)
        sys.exit("no node has started")

    cluster = Cluster()
    node(cluster.add_node, num_cpus=head, include_dashboard=False)
    nodes = [node(cluster.add_node, num_cpus=each) for each in others]
    print("address", cluster.address, flush=True)  # noqa: T201
    for _ in sys.stdin:
        cluster.remove_node(nodes.pop(), allow_graceful=False)
    cluster.shutdown()


if __name__ == "__main__":
    main()
