"""Passes over batches of texts: how texts are grouped, and halved where they do not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import structlog

from atp.model.halving import in_halves
from atp.model.memory import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from atp.model.halving import Failure
    from atp.model.loading import Model

Item = TypeVar("Item")
Result = TypeVar("Result")

log = structlog.get_logger()


def halving(
    model: Model,
    work: Callable[[Sequence[Item]], Sequence[Result]],
    batch: Sequence[Item],
    tokens: Callable[[Item], int],
) -> list[Result | None]:
    """Return the result of each item; None where it does not fit into memory even alone.

    Args:
        model: its device's memory is released after a failure.
        work: returns the results of a batch, in order.
        batch: the items.
        tokens: returns how many an item has, for the log.
    """

    def log_retry(failure: Failure, batch: Sequence[Item]) -> None:
        total = sum(map(tokens, batch))
        log.warning("oom.retry", pairs=len(batch), error="OOM", tokens=total, **failure.memory)

    return in_halves(
        model,
        work,
        batch,
        stand_in=lambda *_: None,
        is_fault=is_out_of_memory,
        before_retry=log_retry,
    )


def batches_of(
    items: Sequence[Item], tokens: Callable[[Item], int], batch_tokens: int
) -> list[list[Item]]:
    """Group texts of similar length: longest first, each batch within the budget.

    Args:
        items: one for each text.
        tokens: returns how many an item has.
        batch_tokens: most tokens in a batch, padding included; a longer text goes alone.
    """
    batches: list[list[Item]] = []
    for item in sorted(items, key=tokens, reverse=True):  # in their order where lengths are equal
        if batches and (len(batches[-1]) + 1) * tokens(batches[-1][0]) <= batch_tokens:
            batches[-1].append(item)
        else:
            batches.append([item])
    return batches
