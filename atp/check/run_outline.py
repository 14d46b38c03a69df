"""The outline of a run: device, model, SAEs, token budget and work, without loading any weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from atp.check.estimate import disk, memory, time_needed, vector_bytes
from atp.check.machine import Device, choose_device
from atp.check.run_work import RunWork
from atp.config.settings import WINDOW_PAIRS
from atp.model.device_memory import figures
from atp.model.devices import choose_dtype
from atp.model.dictionaries.outline import sae_outline
from atp.model.loading import quiet_libraries
from atp.model.memory_model import MAX_BATCH_TOKENS, tokens_that_fit
from atp.model.outline import outline
from atp.model.pair_tokenizer import PairTokenizer
from atp.run.engine.cluster import require_ray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.check.findings import Findings, InputProblems
    from atp.check.machine import Nvidia
    from atp.config.run import RunSettings
    from atp.config.settings import Settings
    from atp.dataset.input_scan import InputScan
    from atp.model.dictionaries.outline import SaeOutline
    from atp.model.outline import Outline


@dataclass
class RunOutline:
    """The parts of a run; None stands for a part that is not available, which is a finding."""

    own: RunSettings
    cuda: str | None  # the version that torch was built for; None for its CPU build
    host_memory: dict[str, int]  # bytes
    device: Device | None = None
    free_bytes: int | None = None  # of the device; of all those of a worker
    workers: int = 1
    model: Outline | None = None
    saes: list[SaeOutline] = field(default_factory=list)
    work: RunWork | None = None

    def estimates(self, scan: InputScan, model: Outline, work: RunWork) -> dict[str, Any]:
        """Return memory, disk and time of the run as JSON values, once its work is counted."""
        saes = self.saes
        vectors = vector_bytes(model, saes, work, self.own.save_vectors)
        written = disk(scan, work, saes, vectors)
        if self.device is None or self.free_bytes is None:
            of_cluster = "the nodes of the cluster are not looked at"
            unknown = {"unknown": of_cluster if self.own.cluster else "the device is not available"}
            return {"memory": unknown, "disk": written, "time": unknown}
        kind, gpu = self.device.kind, self.device.gpu
        return {
            "memory": memory(model, saes, work, kind, self.free_bytes, self.sharing),
            "disk": written,
            "time": time_needed(model, saes, work, kind, gpu.name if gpu else "", self.workers),
        }

    @property
    def sharing(self) -> int:
        """How many workers share the memory of the device."""
        return self.workers if self.device is not None and self.device.kind == "cpu" else 1


def outline_run(  # noqa: PLR0913, PLR0917  (each is made before)
    settings: Settings,
    own: RunSettings,
    specs: Sequence[str],
    nvidia: Nvidia | None,
    findings: Findings,
    problems: InputProblems,
) -> RunOutline:
    """Inspect device, model and SAEs, and prepare to count the work and the pairs at fault."""
    quiet_libraries()
    host = figures(torch.device("cpu"))
    host_memory = {name: host[name] for name in ("free_bytes", "total_bytes")}
    run = RunOutline(own, torch.version.cuda, host_memory)
    gpus = nvidia.gpus if nvidia else ()
    with findings.collect("device"):
        if own.cluster is None:
            split = settings.device_map is not None or own.gpus_per_worker > 1
            run.device = choose_device("cuda" if split else settings.device, nvidia, run.cuda)
            run.free_bytes = host["free_bytes"]
            if run.device.gpu is not None:
                cards = gpus if split else (run.device.gpu,)
                cards = cards[: own.gpus_per_worker] if own.on_ray else cards
                run.free_bytes = sum(each.free_bytes for each in cards)
    with findings.collect("workers"):
        if own.on_ray:
            require_ray()
            here = gpus if run.device and run.device.gpu else ()
            run.workers = own.workers_on(len(here) // own.gpus_per_worker)
            if here:
                own.check_gpus(len(here))
    # Only a GPU can be missing; which device those of a cluster are, the setting says.
    kind = run.device.kind if run.device else (settings.device or "cuda").partition(":")[0]
    with findings.collect("model"):
        dtype = choose_dtype(settings.model_dtype, torch.device(kind))
        run.model = outline(settings.model, settings.revision, dtype)
    shape = run.model.shape if run.model else None
    run.saes = [sae_outline(spec, shape) for spec in specs]
    if run.model is None:
        return run
    for sae in run.saes:
        with findings.collect("saes"):
            sae.check_fit(run.model.name, run.model.shape)
    with findings.collect("settings"):
        pair_tokenizer = PairTokenizer(
            run.model,
            max_tokens_to_check=settings.max_tokens_to_check,
            chat_template=settings.chat_template,
            sequence_tokens=settings.scoring.sequence,
        )
        budget = settings.batch_tokens or _default_budget(run, kind, settings.tail)
        whole = run.model.shape.whole
        run.work = RunWork(pair_tokenizer, settings, budget, problems, WINDOW_PAIRS, whole)
    return run


def _default_budget(run: RunOutline, kind: str, tail: int | None) -> int:
    if run.free_bytes is None or run.model is None:
        return MAX_BATCH_TOKENS[kind]
    loaded = run.model.bytes + sum(sae.bytes or 0 for sae in run.saes)
    hooks = [sae.hook_name or "" for sae in run.saes]
    bytes_per_token = run.model.shape.bytes_per_token(hooks, tail)
    return tokens_that_fit(run.free_bytes / run.sharing - loaded, bytes_per_token, kind)
