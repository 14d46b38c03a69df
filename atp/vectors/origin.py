"""Origin: what scoring needs of a model beside the vectors that were captured in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from torch import Tensor

    from atp.model.dictionaries.placement import Dictionaries
    from atp.model.language_model import Model


@dataclass(frozen=True)
class Origin:
    """The model's side of the hook points of a run."""

    norm_weights: dict[str, Tensor | None]
    """Of each hook point with gradients: how the next norm weights the dimensions, (d_model,)."""
    read_only: tuple[str, ...]  # hook points without gradients
    uses_rms_norm: bool
    n_layers: int

    @classmethod
    def of(cls, model: Model, dictionaries: Dictionaries) -> Self:
        """Return what a run with these dictionaries captures, and what the model adds to it."""
        weights = {}
        for name in dictionaries.written_points:
            of_point = model.next_norm_weights(name)
            weights[name] = None if of_point is None else of_point.cpu()
        return cls(
            weights,
            tuple(dictionaries.read_only_points),
            model.uses_rms_norm,
            model.n_layers,
        )

    def describe(self) -> dict[str, Any]:
        """Return all but the weights, as JSON values."""
        return {
            "points": list(self.norm_weights),
            "read_only": list(self.read_only),
            "uses_rms_norm": self.uses_rms_norm,
            "n_layers": self.n_layers,
        }
