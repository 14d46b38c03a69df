"""The SAEs of a run, and where their weights are: on the device, or offloaded to the host.

SAEs that together take little of the device's free memory stay there. Otherwise all are offloaded,
and one at a time is copied to the device, whose memory then limits no number of SAEs. The matrices
of one that is too large for that stay on the host, too.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from atp.model.device_memory import free_bytes
from atp.model.dictionaries.in_parts import InParts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from sae_lens import SAE
    from torch import Tensor

    from atp.model.dictionaries.loading import Dictionary

RESIDENT_SHARE = 0.25
"""The share of the device's free memory that SAEs may take for good; batches need the rest."""
LENT_SHARE = 0.5
"""The share that an SAE may take while it is lent."""


class Dictionaries:
    """SAEs in the user's order; moves them to the device, or offloads them if they are large."""

    def __init__(
        self,
        dictionaries: Sequence[Dictionary],
        device: torch.device,
        *,
        offload: bool | None = None,
        in_parts: bool | None = None,
    ) -> None:
        self._all = tuple(dictionaries)
        self.device = device
        tensors = [tensor for dictionary in self._all for tensor in _tensors(dictionary.sae)]
        size = sum(tensor.nbytes for tensor in tensors)
        there = sum(tensor.nbytes for tensor in tensors if tensor.device == device)
        free = free_bytes(device) + there
        if offload is None:
            offload = device.type != "cpu" and size > RESIDENT_SHARE * free
        self.offloaded = offload
        """Whether an SAE is on the device only while it is used."""
        self._too_large = {
            id(dictionary)
            for dictionary in self._all
            if in_parts or (in_parts is None and _size(dictionary.sae) > LENT_SHARE * free)
            if _only_multiplies(dictionary.sae)
        }
        for tensor in tensors:
            tensor.data = tensor.data.to("cpu" if offload else device)
            if offload and device.type == "cuda":  # pinned memory is copied at full speed
                tensor.data = tensor.data.pin_memory()

    def __iter__(self) -> Iterator[Dictionary]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def read_points(self) -> list[str]:
        """The hook points that SAEs read, each once, in the order of the SAEs."""
        return list(dict.fromkeys(dictionary.hook_name for dictionary in self._all))

    @property
    def written_points(self) -> list[str]:
        """The hook points that SAEs write to, each once, in the order of the SAEs."""
        return list(dict.fromkeys(name for each in self._all for name in each.writes))

    @property
    def read_only_points(self) -> list[str]:
        """The hook points that SAEs read and none writes to."""
        written = set(self.written_points)
        return [name for name in self.read_points if name not in written]

    @property
    def lowest_points(self) -> list[str]:
        """The lowest hook point that each SAE writes to, each once."""
        return list(dict.fromkeys(dictionary.writes[0] for dictionary in self._all))

    @contextmanager
    def on_device(self, dictionary: Dictionary) -> Iterator[SAE[Any]]:
        """Yield an SAE whose weights are on the device while the context lasts."""
        if not self.offloaded:
            yield dictionary.sae
            return
        parameters = dictionary.sae._parameters  # noqa: SLF001  (torch checks what is set else)
        matrices = {}
        if id(dictionary) in self._too_large:
            matrices = {name: parameters[name] for name in ("W_enc", "W_dec")}
        large = {id(matrix) for matrix in matrices.values()}
        tensors = [tensor for tensor in _tensors(dictionary.sae) if id(tensor) not in large]
        host_data = [tensor.data for tensor in tensors]
        try:
            for tensor in tensors:
                tensor.data = tensor.data.to(self.device, non_blocking=True, copy=True)
            parameters.update({name: InParts.of(each) for name, each in matrices.items()})
            yield dictionary.sae
        finally:
            parameters.update(matrices)
            for tensor, data in zip(tensors, host_data, strict=True):
                tensor.data = data


def _only_multiplies(sae: SAE[Any]) -> bool:
    """Say whether an SAE's code does nothing with its matrices but to multiply them."""
    norms = getattr(sae.cfg, "rescale_acts_by_decoder_norm", False)
    return not norms and sae.cfg.architecture() != "matching_pursuit"


def _size(sae: SAE[Any]) -> int:
    return sum(tensor.nbytes for tensor in _tensors(sae))


def _tensors(sae: SAE[Any]) -> list[Tensor]:
    return [*sae.parameters(), *sae.buffers()]
