"""The interface that the numerics need of a language model; `atp.model` implements it.

Where a model is split over several cards, passes take and return tensors on the device of batches,
and a hook point's output is on the card of its layer: hooks bring it to that device, and back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

    import torch
    from torch import Tensor

    from atp.attribution.metrics import Head


@runtime_checkable
class Cache(Protocol):
    """Keys and values of the tokens before those that a pass is given."""

    def spread(self, rows: Tensor, columns: Tensor) -> None:
        """Give row i, column j the keys and values of prefix rows[i] at columns[i, j]."""

    def of_rows(self, rows: Tensor, start: int, end: int) -> Any:  # noqa: ANN401  (a cache)
        """Return the kept keys and values of rows, columns start..end, for `resume`."""


@runtime_checkable
class LayerOutput(Protocol):
    """The residual stream after a layer."""

    def of_rows(self, rows: Tensor, columns: slice) -> Any:  # noqa: ANN401  (a LayerOutput)
        """Return some columns of some rows, which may repeat."""


@runtime_checkable
class LanguageModel(Protocol):
    """A frozen language model. Ids, masks and positions are (row, column)."""

    @property
    def head(self) -> Head:
        """The unembedding."""

    @property
    def device(self) -> torch.device:
        """The device of batches."""

    @property
    def keeps_all_keys(self) -> bool:
        """Whether keys and values are all that its layers keep of earlier tokens."""

    def new_cache(self, *, layers: int | None = None, kept_from: int | None = None) -> Cache | None:
        """Return an empty key-value cache for some first layers; all by default.

        From layer `kept_from` on, keys and values are kept after a pass has used them. None where
        layers keep something else: passes then cover whole texts.
        """

    def fill(self, cache: Any, ids: Tensor, mask: Tensor, positions: Tensor) -> None:  # noqa: ANN401
        """Add the keys and values of new tokens to a cache."""

    def hidden(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:  # noqa: ANN401
        """Return the final hidden states of new tokens after cached ones; None is no cache."""

    def hooks(
        self, hooks: Iterable[tuple[str, Callable[..., Tensor]]]
    ) -> AbstractContextManager[Any]:
        """Return a context in which the hooks are active."""

    def layers_before(self, hook_name: str) -> int:
        """Return the number of layers that are complete when a hook point fires."""

    def layers_through(self, hook_name: str) -> int:
        """Return the number of layers that a pass must enter until a hook point fires."""

    def recorded_layers(self, layers: Iterable[int]) -> AbstractContextManager[Mapping[int, Any]]:
        """Return a context in which a pass records the output of the first n layers, by n."""

    def resume(  # noqa: PLR0913, PLR0917  (as a pass needs them)
        self,
        layers: int,
        layer_output: Any,  # noqa: ANN401
        ids: Tensor,
        mask: Tensor,
        positions: Tensor,
        cache: Any,  # noqa: ANN401
    ) -> Tensor:
        """Return the final hidden states as `hidden` does, from the output of the first layers.

        `layer_output` is None for no layers; `cache` comes from `Cache.of_rows`, or is None.
        """
