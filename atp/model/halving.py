"""Work on a batch that fails is done again on its halves, down to the item at fault.

So a batch that does not fit into memory still gets its results, and an item that cannot be worked
on costs no other item its result.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from atp.model.memory import figures, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from atp.model.loading import Model

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """Why the work on a batch failed."""

    error: Exception
    memory: dict[str, int]
    """The figures of the device's memory when it ran out; empty for any other error."""

    @property
    def out_of_memory(self) -> bool:
        """Whether the batch did not fit into memory."""
        return bool(self.memory)


def halves(batch: Sequence[Item]) -> Sequence[Sequence[Item]]:
    """Return both halves of a batch; none of a single item."""
    half = len(batch) // 2
    return (batch[:half], batch[half:]) if half else ()


def in_halves(  # noqa: PLR0913  (four that all need, three that some need)
    model: Model,
    work: Callable[[Sequence[Item]], Sequence[Result]],
    batch: Sequence[Item],
    stand_in: Callable[[Failure, Sequence[Item]], Result],
    *,
    is_fault: Callable[[Exception], bool] = lambda _: True,
    before_retry: Callable[[Failure, Sequence[Item]], None] = lambda *_: None,
    split: Callable[[Sequence[Item]], Sequence[Sequence[Item]]] = halves,
) -> list[Result]:
    """Return the results of work on a batch, or on the parts of it that do not fail.

    Both callbacks get the failure and the batch that failed, when its tensors are released.

    Args:
        model: its device's memory is released after a failure.
        work: returns the results of a batch, in order.
        batch: the items.
        stand_in: returns (or raises) the result of a batch that cannot be split.
        is_fault: whether to split for an error; any other error is raised.
        before_retry: writes to the log that the parts of a batch are tried next.
        split: returns the parts of a batch; none where it cannot be split.
    """
    try:
        return list(work(batch))
    except Exception as error:
        if not is_fault(error):
            raise
        # Taken here, while the failed batch still has its memory.
        failure = Failure(error, figures(model.device) if is_out_of_memory(error) else {})
    # The error's traceback refers to the frames of the failed work, and they to its tensors. Both
    # must go, or the halves would have no more memory than the whole.
    _clear_frames(failure.error)
    model.free_memory()
    parts = split(batch)
    if not parts:
        return [stand_in(failure, batch)]
    before_retry(failure, batch)
    results: list[Result] = []
    for part in parts:
        results += in_halves(
            model,
            work,
            part,
            stand_in,
            is_fault=is_fault,
            before_retry=before_retry,
            split=split,
        )
    return results


def _clear_frames(error: BaseException | None) -> None:
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
