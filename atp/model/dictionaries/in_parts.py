"""A matrix that is too large for the device: it stays on the host, and is multiplied part by part.

An SAE of a million features holds two matrices of 15 GiB. Its own code multiplies them as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

PART_BYTES = 1 << 29
PRODUCTS = {torch.matmul, Tensor.matmul, Tensor.__matmul__}


class InParts(Tensor):
    """A matrix on the host. A product with it is taken on the other factor's device."""

    @classmethod
    def of(cls, matrix: Tensor) -> Self:
        """Return the same numbers as such a matrix."""
        found: Self = matrix.detach().as_subclass(cls)
        return found

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401  (as torch calls it)
        """Take products in parts; anything else as of a plain tensor of the host."""
        # torch gives neither of the two calls a type.
        if func in PRODUCTS and isinstance(args[1], cls):
            return _Product.apply(args[0], args[1].as_subclass(Tensor))  # type: ignore[no-untyped-call]
        result = super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]
        return result.as_subclass(Tensor) if isinstance(result, cls) else result


class _Product(torch.autograd.Function):
    """x @ matrix, for x of any number of dimensions; the longer side of the matrix is divided."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor) -> Tensor:  # noqa: ANN401  (untyped)
        ctx.matrix = matrix
        result = x.new_zeros(*x.shape[:-1], matrix.shape[1])
        for side, which in _parts(matrix):
            if side == 0:
                result += x[..., which] @ matrix[which].to(x.device)
            else:
                result[..., which] = x @ matrix[:, which].to(x.device)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (gradient,), matrix = gradients, ctx.matrix
        result = gradient.new_zeros(*gradient.shape[:-1], matrix.shape[0])
        for side, which in _parts(matrix):
            if side == 0:
                result[..., which] = gradient @ matrix[which].to(gradient.device).T
            else:
                result += gradient[..., which] @ matrix[:, which].to(gradient.device).T
        return result, None


def _parts(matrix: Tensor) -> Iterator[tuple[int, slice]]:
    """Yield the longer side of a matrix and slices of it, each of at most PART_BYTES."""
    side = int(matrix.shape[1] > matrix.shape[0])
    step = max(1, PART_BYTES * matrix.shape[side] // matrix.nbytes)
    for start in range(0, matrix.shape[side], step):
        yield side, slice(start, start + step)
