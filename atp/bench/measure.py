"""Times several procedures side by side: warmed up, interleaved, medians of ratios.

Other work, caches and the clock of the machine drift over minutes; both runs of one round see the
same drift, and their ratio does not.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

import structlog
import torch

from atp.model.device_memory import figures, is_out_of_memory, reset_peak
from atp.runtime.live import phase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = structlog.get_logger()


@dataclass
class Contender:
    """A procedure and its measurements."""

    name: str
    run: Callable[[], object]
    warm_up: Callable[[], object]
    seconds: list[float] = field(default_factory=list)  # of each round
    peak_bytes: int | None = None  # in any round; None where the system does not report it
    out_of_memory: bool = False

    @property
    def median(self) -> float | None:
        """The median of the rounds; None if the procedure did not fit into memory."""
        return median(self.seconds) if self.seconds and not self.out_of_memory else None


def interleave(contenders: Sequence[Contender], rounds: int, device: torch.device) -> None:
    """Run the contenders in turn, each round from another one; one without memory drops out."""
    for contender in contenders:
        _attempt(contender, contender.warm_up, device)
    for number in range(rounds):
        shift = number % len(contenders)
        for contender in [*contenders[shift:], *contenders[:shift]]:
            if contender.out_of_memory:
                continue
            gc.collect()
            peak_is_known = reset_peak(device)
            with phase(f"timing {contender.name}, round {number + 1} of {rounds}", still=True):
                seconds = _attempt(contender, contender.run, device)
            if seconds is None:
                continue
            contender.seconds.append(seconds)
            if peak_is_known:
                peak = figures(device)["peak_bytes"]
                contender.peak_bytes = max(peak, contender.peak_bytes or 0)
            log.info(
                "bench.round",
                round=number + 1,
                rounds=rounds,
                what=contender.name,
                seconds=round(seconds, 3),
            )


def ratio(numerator: Contender, denominator: Contender) -> float | None:
    """Return the median over the rounds of the ratio of their times."""
    if numerator.median is None or denominator.median is None:
        return None
    return median(a / b for a, b in zip(numerator.seconds, denominator.seconds, strict=True))


def _attempt(
    contender: Contender, work: Callable[[], object], device: torch.device
) -> float | None:
    """Return the seconds that the work takes; None, and a warning, if it runs out of memory."""
    try:
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        return time.perf_counter() - began
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Outside the except block: the traceback would keep the tensors alive.
    contender.out_of_memory = True
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    log.warning("bench.oom", what=contender.name, **figures(device))
    return None


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
