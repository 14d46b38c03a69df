"""Counts live bytes and FLOPs of the operations in a context, on real tensors or on fake ones.

Fake tensors have shapes and no memory, so a model of any size can be counted. The count leaves out
the memory that kernels use inside, the reserve of the allocator, and FLOPs of operations other than
matrix products.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 512
"""torch's allocator for CUDA rounds sizes up to a multiple of it."""


@dataclass
class Allocation:
    """A storage that an operation made.

    A moment is counted in allocations and releases before it.
    """

    size: int
    made: int
    freed: float = math.inf

    def alive(self, moment: int) -> bool:
        """Return whether something referred to it at a moment."""
        return self.made <= moment < self.freed


class LiveBytes(TorchDispatchMode):
    """Counts each storage from the operation that makes it until nothing refers to it.

    Storages from outside the context, such as weights and inputs, are not counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        """Two for each multiplication and addition."""
        self.live = self.peak = 0
        self.now = self.peak_at = 0
        """Moments."""
        self.allocations: list[Allocation] = []
        self._watched: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401  (torch's signature, here and below)
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Run an operation and count its results, except views of its arguments."""
        del types
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func.overloadpacket in flop_registry:
            self.flops += flop_registry[func.overloadpacket](*args, **kwargs, out_val=result)
        given = {id(storage) for storage in _storages((args, kwargs))}
        if func is torch.ops.aten.lift_fresh.default:  # torch.tensor() has just made its argument
            given.clear()
        for storage in _storages(result):
            if id(storage) not in given and id(storage) not in self._watched:
                self._add(storage)
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        self.now += 1
        allocation = Allocation(-(-storage.nbytes() // BLOCK) * BLOCK, self.now)
        self.allocations.append(allocation)
        self.live += allocation.size
        if self.live > self.peak:
            self.peak, self.peak_at = self.live, self.now
        key = id(storage)

        def free(_: object) -> None:
            self.now += 1
            allocation.freed = self.now
            self.live -= allocation.size
            del self._watched[key]

        self._watched[key] = weakref.ref(storage, free)

    def at_peak(self) -> list[Allocation]:
        """Return the allocations that were alive at the peak."""
        return [item for item in self.allocations if item.alive(self.peak_at)]


def _storages(tree: Any) -> Iterator[torch.UntypedStorage]:  # noqa: ANN401
    for leaf in tree_leaves(tree):
        if isinstance(leaf, torch.Tensor):
            yield leaf.untyped_storage()
