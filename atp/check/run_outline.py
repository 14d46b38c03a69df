"""The outline of a run: device, model, SAEs, token budget and work, without loading any weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from atp.check.estimate import disk, memory, time_needed
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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.check.findings import Findings, InputProblems
    from atp.check.machine import Nvidia
    from atp.config.settings import Settings
    from atp.dataset.input_scan import InputScan
    from atp.model.dictionaries.outline import SaeOutline
    from atp.model.outline import Outline


@dataclass
class RunOutline:
    """The parts of a run; None stands for a part that is not available, which is a finding."""

    cuda: str | None  # the version that torch was built for; None for its CPU build
    host_memory: dict[str, int]  # bytes
    device: Device | None = None
    free_bytes: int | None = None  # of the device
    model: Outline | None = None
    saes: list[SaeOutline] = field(default_factory=list)
    work: RunWork | None = None

    def estimates(self, scan: InputScan, model: Outline, work: RunWork) -> dict[str, Any]:
        """Return memory, disk and time of the run as JSON values, once its work is counted."""
        saes = self.saes
        written = disk(scan, work, saes)
        if self.device is None or self.free_bytes is None:
            unknown = {"unknown": "the device is not available"}
            return {"memory": unknown, "disk": written, "time": unknown}
        kind, gpu = self.device.kind, self.device.gpu
        return {
            "memory": memory(model, saes, work, kind, self.free_bytes),
            "disk": written,
            "time": time_needed(model, saes, work, kind, gpu.name if gpu else ""),
        }


def outline_run(
    settings: Settings,
    specs: Sequence[str],
    nvidia: Nvidia | None,
    findings: Findings,
    problems: InputProblems,
) -> RunOutline:
    """Inspect device, model and SAEs, and prepare to count the work and the pairs at fault."""
    quiet_libraries()
    host = figures(torch.device("cpu"))
    host_memory = {name: host[name] for name in ("free_bytes", "total_bytes")}
    run = RunOutline(torch.version.cuda, host_memory)
    with findings.collect("device"):
        split = settings.device_map is not None
        run.device = choose_device("cuda" if split else settings.device, nvidia, run.cuda)
        gpu = run.device.gpu
        run.free_bytes = gpu.free_bytes if gpu else host["free_bytes"]
        if split and nvidia is not None:
            run.free_bytes = sum(each.free_bytes for each in nvidia.gpus)
    kind = run.device.kind if run.device else "cuda"  # only a GPU can be missing
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
    return tokens_that_fit(run.free_bytes - loaded, bytes_per_token, kind)
