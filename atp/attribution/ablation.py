"""Features taken out of a residual stream, at every position of a pass.

    x -> x - s * sum_{i in S} f_i(x) d_i,    f = encode(x) at that position,    s the strength

d_i is the direction that the decoder writes for feature i. The sum is decode(f on S) - decode(0),
by one encode and one decode on the same positions: the decoder's bias falls out, and what an SAE
does around its linear map (normalising x, rescaling by decoder norms) is in it. What S did not
write, the SAE's error included, stays as it was: with S empty, or s = 0, so does x, to the bit.

Several SAEs on one hook point all read the x that came, and what each takes out is summed.

Marks et al. 2024, "Sparse Feature Circuits" (arXiv:2403.19647), remove features with the error
term kept; for directions, Arditi et al. 2024 (arXiv:2406.11717).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from atp.attribution.scores import Autoencoder  # noqa: TC001  (read at run time, by the tests)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

AT_ONCE = 2**25
"""Activations that are made at a time, as numbers: 128 MiB, whatever batch and width."""


@dataclass(frozen=True)
class Removal:
    """Features of one SAE."""

    sae: Autoencoder
    d_sae: int
    view: Callable[[Tensor], Tensor]
    """Brings positions, (n, *hook), into the shape that the SAE reads, (n, *d_in)."""
    features: Int[Tensor, " chosen"]

    def of(self, x: Float[Tensor, " n *hook"]) -> Float[Tensor, " n *hook"]:
        """Return what the features write into each position, float32."""
        found = self.sae.encode(self.view(x.float()))  # (n, d_sae)
        chosen = torch.zeros_like(found)
        chosen[:, self.features] = found[:, self.features]
        # In one call: normalising SAEs remember their input's scale for one decode only.
        both = self.sae.decode(torch.stack([chosen, torch.zeros_like(chosen)]))
        return (both[0] - both[1]).view(x.shape)


class Ablation:
    """A hook that takes features out at every position that it sees.

    Args:
        removals: of one hook point, one for each SAE.
        strength: s; 1 takes out all of it, 0 nothing.
        keep_mask: says which positions of x, (batch, position, *hook), stay as they are, as
            (batch, position); by default, none.
    """

    def __init__(
        self,
        removals: Sequence[Removal],
        strength: float,
        keep_mask: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.removals = tuple(removals)
        self.strength = strength
        self.keep_mask = keep_mask

    def removed(
        self, x: Float[Tensor, "batch position *hook"]
    ) -> Float[Tensor, "batch position *hook"]:
        """Return what all of them write, summed, float32."""
        rows = x.flatten(0, 1)  # (batch * position, *hook)
        total = torch.zeros_like(rows, dtype=torch.float32)
        for removal in self.removals:
            for part in _parts(len(rows), removal.d_sae):
                total[part] += removal.of(rows[part])
        return total.view(x.shape)

    def __call__(
        self, x: Float[Tensor, "batch position *hook"], hook: object
    ) -> Float[Tensor, "batch position *hook"]:
        """Return `x` without the features."""
        del hook
        without = (x.float() - self.strength * self.removed(x)).to(x.dtype)
        if self.keep_mask is None:
            return without
        there = self.keep_mask(x)
        return torch.where(there.view(*there.shape, *[1] * (x.ndim - 2)), x, without)


class ActivationSums:
    """A hook that sums the activations of an SAE's features, and leaves the stream as it is.

    Args:
        sae: whose features.
        d_sae: their number.
        view: as of a Removal.
    """

    def __init__(self, sae: Autoencoder, d_sae: int, view: Callable[[Tensor], Tensor]) -> None:
        self.sae, self.d_sae, self.view = sae, d_sae, view
        self.mask: Tensor = torch.empty(0)  # (batch, position), set before each pass
        self.sums: Tensor = torch.zeros(d_sae, dtype=torch.float64)
        self.positions = 0
        self._last: tuple[Tensor, int] | None = None

    @torch.no_grad()
    def __call__(
        self, x: Float[Tensor, "batch position *hook"], hook: object
    ) -> Float[Tensor, "batch position *hook"]:
        """Take the positions that the mask calls real."""
        del hook
        rows = x[self.mask.bool()]  # (real, *hook)
        sums = torch.zeros_like(self.sums)
        for part in _parts(len(rows), self.d_sae):
            found = self.sae.encode(self.view(rows[part].float()))
            sums += found.sum(dim=0).double().cpu()
        self._last = sums, len(rows)
        return x

    def keep(self) -> None:
        """Count the last pass, which has come to its end."""
        if self._last is not None:
            self.sums += self._last[0]
            self.positions += self._last[1]
            self._last = None

    @property
    def means(self) -> Float[Tensor, " d_sae"]:
        """The mean activation of each feature over all positions, those where it is 0 included."""
        return self.sums / max(1, self.positions)


def _parts(rows: int, d_sae: int) -> Iterator[slice]:
    step = max(1, AT_ONCE // d_sae)
    return (slice(start, start + step) for start in range(0, rows, step))
