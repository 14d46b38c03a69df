"""Work on a batch that fails is done again on its halves, down to the item at fault.

A batch that does not fit into memory still gets its results, and a bad item costs no other item.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from atp.model.device_memory import figures, fullest, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from atp.model.language_model import Model

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """An error, and the figures of the device's memory if it ran out, else none."""

    error: Exception
    memory: dict[str, int]

    @property
    def out_of_memory(self) -> bool:
        """Whether the batch did not fit into memory."""
        return bool(self.memory)


def halves(batch: Sequence[Item]) -> Sequence[Sequence[Item]]:
    """Return both halves of a batch; none of a single item."""
    half = len(batch) // 2
    return (batch[:half], batch[half:]) if half else ()


def in_halves(  # noqa: PLR0913  (four arguments for all, three for some)
    model: Model,
    work: Callable[[Sequence[Item]], Sequence[Result]],
    batch: Sequence[Item],
    stand_in: Callable[[Failure, Sequence[Item]], Result],
    *,
    is_fault: Callable[[Exception], bool] = lambda _: True,
    before_retry: Callable[[Failure, Sequence[Item]], None] = lambda *_: None,
    split: Callable[[Sequence[Item]], Sequence[Sequence[Item]]] = halves,
) -> list[Result]:
    """Return the results of work on a batch, or on the parts of it that do not fail, in order.

    An error that is no fault is raised. `stand_in` returns, or raises, the result of a batch that
    cannot be split.
    """

    def results_of(batch: Sequence[Item]) -> list[Result]:
        try:
            return list(work(batch))
        except Exception as error:
            if not is_fault(error):
                raise
            # Taken here, while the failed batch still has its memory.
            memory = figures(fullest(model.devices)) if is_out_of_memory(error) else {}
            failure = Failure(error, memory)
        # The error's traceback refers to the frames of the failed work, and they to its tensors.
        # Both must go, or the halves would have no more memory than the whole.
        cause: BaseException | None = failure.error
        while cause is not None:
            cause.__traceback__ = None
            cause = cause.__cause__ or cause.__context__
        model.free_memory()
        parts = split(batch)
        if not parts:
            return [stand_in(failure, batch)]
        before_retry(failure, batch)
        return [result for part in parts for result in results_of(part)]

    return results_of(batch)
