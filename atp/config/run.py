"""The settings that only `atp run` has: who computes, and what is kept beside the results.

None of them changes a number, so results do not name them.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal, get_args

from atp.config import checks
from atp.config.checks import whole_number
from atp.config.option import Group, option
from atp.errors import SettingsError

EngineName = Literal["process", "ray"]
VectorType = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class RunSettings:
    """Who computes a run."""

    engine: EngineName = option(
        Group.WORKERS, "process", "NAME", checks.OneOf(get_args(EngineName))
    )
    """process: this process computes. ray: workers of a Ray cluster do, each with a model of its
    own; the results are the same."""
    workers: int | None = option(Group.WORKERS, None, "N", whole_number(1))
    """Workers on a Ray cluster. Default: one for each GPU, or for each group of them; without GPUs,
    one."""
    gpus_per_worker: int = option(Group.WORKERS, 1, "N", whole_number(1))
    """GPUs of each worker; of several, the model is split over them (--device-map=auto)."""
    address: str | None = option(Group.WORKERS, None, "ADDRESS", checks.text)
    """A Ray cluster that runs already: HOST:PORT, or auto for the one of this machine. Default:
    that of RAY_ADDRESS, else a cluster on this machine alone, which ends with the run."""

    save_vectors: VectorType | None = option(
        Group.VECTORS, None, "TYPE", checks.OneOf(get_args(VectorType))
    )
    """Also keep the vectors x and g of every pair and hook point, as float32 or bfloat16, so that
    atp rescore can score other SAEs there without the model. Those of a model in bfloat16 are exact
    in either."""

    @property
    def on_ray(self) -> bool:
        """Whether workers on Ray compute: the options about them ask for it, too."""
        asked = (self.workers, self.address) != (None, None) or self.gpus_per_worker > 1
        return asked or self.engine == "ray"

    @property
    def cluster(self) -> str | None:
        """The address of the cluster to use; None: one on this machine alone."""
        found = self.address or os.environ.get("RAY_ADDRESS")
        return found if found and found != "local" and self.on_ray else None

    def workers_on(self, places: int) -> int:
        """Return how many workers there are where so many have place."""
        return self.workers or max(1, places)

    def check_gpus(self, gpus: int) -> None:
        """Raise SettingsError if a cluster on a machine with so many GPUs has too few of them."""
        workers = self.workers_on(gpus // self.gpus_per_worker)
        if (wanted := workers * self.gpus_per_worker) > gpus:
            msg = f"--workers={workers} needs {wanted} GPUs, and this machine has {gpus}."
            raise SettingsError(msg, "Lower --workers or --gpus-per-worker, or use --device=cpu.")

    def check(self, device: str | None, device_map: str | None) -> None:
        """Raise SettingsError if settings contradict each other, or the run's device."""
        if self.on_ray and device is not None and device.startswith("cuda:"):
            msg = f"--device={device}: on Ray, each worker gets a GPU of its own."
            raise SettingsError(msg, "Use --device=cuda, and choose GPUs by CUDA_VISIBLE_DEVICES.")
        if self.on_ray and device_map is not None:
            msg = "--device-map splits the model of one process, not those of workers on Ray."
            raise SettingsError(msg, "Use --gpus-per-worker=N to split the model of each.")
        if self.gpus_per_worker > 1 and device == "cpu":
            msg = f"--gpus-per-worker={self.gpus_per_worker} and --device=cpu exclude each other."
            raise SettingsError(msg, "Leave one out.")
        given = f"{'--address' if self.address else 'RAY_ADDRESS'}={self.cluster}"
        if (self.cluster or "").startswith("ray://"):
            msg = f"{given}: atp has to run on a machine of the cluster."
            raise SettingsError(msg, "Submit it there: ray job submit -- atp run …")
        if not re.fullmatch(r"auto|[^/]+:[0-9]{1,5}", self.cluster or "auto"):
            msg = f"{given} is no address of a Ray cluster."
            raise SettingsError(msg, "Write HOST:PORT, as in --address=head:6379, or auto.")
