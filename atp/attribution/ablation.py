"""Ablation: features are removed from a model, at every position of a pass.

    y -> y - s * sum_{i in S} f_i(x) d_i,    f = encode(x) at that position,    s the strength

x is what the dictionary reads, y what the model has where it writes (x itself, for an SAE), and d_i
the decoder's direction of feature i there. The sum is decode(f on S) - decode(0), from one encode
and one decode of the same positions: the decoder's bias cancels, and an SAE's own normalisation and
rescaling are included. The rest of y, the dictionary's error included, is unchanged: with S empty,
or with s = 0, y is the same to the bit.

Several dictionaries on one hook point all read the incoming x, and their removals are summed.

Marks et al. 2024, "Sparse Feature Circuits" (arXiv:2403.19647), remove features with the error
term kept; for directions, Arditi et al. 2024 (arXiv:2406.11717).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from atp.attribution.scores import Autoencoder  # noqa: TC001  (read at run time, by the tests)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MAX_ACTIVATIONS_PER_CHUNK = 2**25
"""Activations in memory at a time: 128 MiB, for any batch and width."""


@dataclass(frozen=True)
class Removal:
    """Features of one dictionary to remove."""

    sae: Autoencoder
    d_sae: int
    view: Callable[[Tensor], Tensor]
    """Brings (n, *hook) into the shape that the dictionary reads, (n, *d_in)."""
    features: Int[Tensor, " chosen"]
    read: str  # the hook points
    writes: tuple[str, ...]

    def of(self, x: Float[Tensor, " n *hook"]) -> Float[Tensor, " n d_out"]:
        """Return the contribution of the features to each position, float32."""
        activations = self.sae.encode(self.view(x.float()))  # (n, d_sae)
        chosen = torch.zeros_like(activations)
        chosen[:, self.features] = activations[:, self.features]
        # In one call: normalising SAEs keep their input's scale for one decode only.
        both = self.sae.decode(torch.stack([chosen, torch.zeros_like(chosen)]))
        return (both[0] - both[1]).flatten(1)


class Ablation:
    """Hooks that remove features at every position of a pass.

    Args:
        removals: one for each dictionary.
        strength: s; 1 removes the whole contribution, 0 nothing.
        keep_mask: returns the positions of y that stay unchanged, (batch, position).
    """

    def __init__(
        self,
        removals: Sequence[Removal],
        strength: float,
        keep_mask: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.removals, self.strength, self.keep_mask = removals, strength, keep_mask
        self._contributions: dict[tuple[int, str], Tensor] = {}
        """Of each removal to each hook point, from where it reads to where it writes in a pass."""

    def hooks(self) -> Iterator[tuple[str, Callable[..., Tensor]]]:
        """Yield (hook point, hook) pairs: all that read, then all that write."""
        for number, removal in enumerate(self.removals):
            yield removal.read, partial(self._read, number)
        for name in dict.fromkeys(name for removal in self.removals for name in removal.writes):
            yield name, partial(self._write, name)

    def _read(
        self, number: int, x: Float[Tensor, "batch position *hook"], hook: object
    ) -> Float[Tensor, "batch position *hook"]:
        """Take the contribution of a removal to each point that it writes to; return `x`."""
        del hook
        removal = self.removals[number]
        rows = x.flatten(0, 1).to(removal.features.device)  # (batch * position, *hook)
        parts = [removal.of(rows[part]) for part in _chunks(len(rows), removal.d_sae)]
        contributions = torch.cat(parts).chunk(len(removal.writes), dim=1)
        for name, contribution in zip(removal.writes, contributions, strict=True):
            self._contributions[number, name] = contribution
        return x

    def _write(
        self, name: str, y: Float[Tensor, "batch position *hook"], hook: object
    ) -> Float[Tensor, "batch position *hook"]:
        """Return `y` without the features."""
        del hook
        removed = torch.zeros_like(y, dtype=torch.float32)
        for number, removal in enumerate(self.removals):
            if name in removal.writes:
                removed += self._contributions.pop((number, name)).to(y.device).view(y.shape)
        ablated = (y.float() - self.strength * removed).to(y.dtype)
        if self.keep_mask is None:
            return ablated
        keep = self.keep_mask(y)
        return torch.where(keep.view(*keep.shape, *[1] * (y.ndim - 2)), y, ablated)


class ActivationSums:
    """A hook that sums the activations of an SAE's features and changes nothing."""

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
        """Sum over the positions that the mask marks; return `x`."""
        del hook
        rows = x[self.mask.bool().to(x.device)].to(self.mask.device)  # (real, *hook)
        sums = torch.zeros_like(self.sums)
        for part in _chunks(len(rows), self.d_sae):
            activations = self.sae.encode(self.view(rows[part].float()))
            sums += activations.sum(dim=0).double().cpu()
        self._last = sums, len(rows)
        return x

    def keep(self) -> None:
        """Add the sums of the last pass, now that the whole pass has succeeded."""
        if self._last is not None:
            self.sums += self._last[0]
            self.positions += self._last[1]
            self._last = None

    @property
    def means(self) -> Float[Tensor, " d_sae"]:
        """The mean activation of each feature over all positions, zeros included."""
        return self.sums / max(1, self.positions)


def _chunks(rows: int, d_sae: int) -> Iterator[slice]:
    step = max(1, MAX_ACTIVATIONS_PER_CHUNK // d_sae)
    return (slice(start, start + step) for start in range(0, rows, step))
