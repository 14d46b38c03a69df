"""What is known of a run without weights: device, model, SAEs, token budget, what is to be done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from atp.check.answers import Work
from atp.check.estimate import disk, memory, time_needed
from atp.check.machine import Device, choose_device
from atp.config.settings import WINDOW_PAIRS
from atp.config.shard import WHOLE
from atp.model.device_memory import figures, free_bytes
from atp.model.devices import choose_dtype
from atp.model.dictionaries.outline import sae_outline
from atp.model.loading import quiet_libraries
from atp.model.memory_model import MAX_BATCH_TOKENS, tokens_that_fit
from atp.model.outline import outline
from atp.model.pair_tokenizer import PairTokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.check.answers import Problems
    from atp.check.findings import Findings
    from atp.check.machine import Nvidia
    from atp.config.settings import Settings
    from atp.dataset.input_scan import InputScan
    from atp.model.dictionaries.outline import SaeOutline
    from atp.model.outline import Outline


@dataclass
class Readiness:
    """What a run would begin with; None stands for what cannot be had, which is a finding."""

    settings: Settings
    kind: str
    """Of the device: "cpu" or "cuda"."""
    device: Device | None
    free: int | None
    """Free bytes of the device."""
    outline: Outline | None = None
    saes: list[SaeOutline] = field(default_factory=list)
    work: Work | None = None

    def estimates(self, found: InputScan) -> dict[str, Any]:
        """Return what a run would take, as JSON values."""
        if self.outline is None or self.work is None:
            unknown = {"unknown": "the model's tokenizer and configuration cannot be had"}
            return {"memory": unknown, "disk": unknown, "time": unknown}
        about, saes, work = self.outline, self.saes, self.work
        gpu = self.device.gpu.name if self.device and self.device.gpu else None
        no_device = {"unknown": "the device cannot be had"}
        written = disk(found.size, work, self.settings.top_k, saes, indented=found.indented)
        return {
            "memory": no_device
            if self.free is None
            else memory(about, saes, work, self.kind, self.free),
            "disk": written,
            "time": no_device
            if self.device is None
            else time_needed(about, saes, work, self.kind, gpu),
        }

    @property
    def cuda(self) -> str | None:
        """The version of CUDA that torch was built for; None for its CPU build."""
        return torch.version.cuda

    def host_memory(self) -> dict[str, int]:
        """Return the memory of the machine, or of the container, in bytes."""
        known = figures(torch.device("cpu"))
        return {name: known[name] for name in ("free_bytes", "total_bytes")}


def inspect_run(
    settings: Settings,
    specs: Sequence[str],
    there: Nvidia | None,
    findings: Findings,
    problems: Problems,
) -> Readiness:
    """Look at device, model and SAEs, and get ready to count the work.

    Args:
        settings: of the run.
        specs: the SAEs whose names are right.
        there: the GPUs.
        findings: is told of what cannot be had, and of settings that do not fit.
        problems: is told of pairs that would end in an error.
    """
    quiet_libraries()
    device = None
    with findings.of("device"):
        device = choose_device(settings.device, there, torch.version.cuda)
    kind = device.kind if device else "cuda"  # without a GPU and unless asked, it is the CPU
    ready = Readiness(settings, kind, device, _free(device))
    with findings.of("model"):
        dtype = choose_dtype(settings.model_dtype, torch.device(kind))
        ready.outline = outline(settings.model, settings.revision, dtype)
    shape = ready.outline.shape if ready.outline else None
    ready.saes = [sae_outline(spec, shape) for spec in specs]
    if ready.outline is None:
        return ready
    for sae in ready.saes:
        with findings.of("saes"):
            sae.check_fit(ready.outline.name, ready.outline.shape)
    with findings.of("settings"):
        pair_tokenizer = PairTokenizer(
            ready.outline,
            max_tokens_to_check=settings.max_tokens_to_check,
            chat_template=settings.chat_template,
            sequence_tokens=settings.scoring.sequence,
        )
        budget = settings.batch_tokens or _budget(ready)
        ready.work = Work(
            pair_tokenizer,
            budget,
            settings.limit,
            problems,
            WINDOW_PAIRS,
            settings.shard or WHOLE,
            settings.scoring,
            settings.top_k,
            settings.tail,
        )
    return ready


def _free(device: Device | None) -> int | None:
    if device is None:
        return None
    return device.gpu.free_bytes if device.gpu else free_bytes(torch.device("cpu"))


def _budget(ready: Readiness) -> int:
    """Return the default token budget that a run would find once all is loaded."""
    if ready.free is None or ready.outline is None:
        return MAX_BATCH_TOKENS[ready.kind]
    taken = ready.outline.bytes + sum(sae.bytes or 0 for sae in ready.saes)
    each = ready.outline.shape.bytes_per_token(
        [sae.hook_name or "" for sae in ready.saes], ready.settings.tail
    )
    return tokens_that_fit(ready.free - taken, each, ready.kind)
