"""Batches that do not fit into memory are halved; a text that does not fit alone is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import structlog

from atp.model.device_memory import figures, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from atp.model.language_model import Model

Item = TypeVar("Item")
Found = TypeVar("Found")

log = structlog.get_logger()


def halving(
    model: Model,
    work: Callable[[Sequence[Item]], Sequence[Found]],
    batch: Sequence[Item],
    tokens: Callable[[Item], int],
) -> list[Found | None]:
    """Do a batch, or its halves.

    Args:
        model: whose memory is freed in between.
        work: what to do with a batch; gives one thing for each item.
        batch: the items.
        tokens: how many an item has, for the log.

    Returns:
        What was found of each item, in order; None where it does not fit even alone.
    """
    try:
        return list(work(batch))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Outside the except block: the traceback would keep the failed batch's tensors alive.
    model.free_memory()
    if len(batch) == 1:
        return [None]
    log.warning(
        "oom.retry",
        pairs=len(batch),
        error="OOM",
        tokens=sum(map(tokens, batch)),
        **figures(model.device),
    )
    half = len(batch) // 2
    return halving(model, work, batch[:half], tokens) + halving(model, work, batch[half:], tokens)


def batches_of(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Group texts of similar length: longest first, each batch within the budget.

    Args:
        lengths: of each text, in tokens.
        batch_tokens: most tokens in a batch, padding included; a longer text goes alone.

    Returns:
        Indices into `lengths`, each in exactly one batch.
    """
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= batch_tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
