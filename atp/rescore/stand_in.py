"""StandIn: takes the place of the model where vectors are scored that were captured before."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from atp.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from atp.vectors.parts import Part
    from atp.vectors.reader import Vectors


REMEDY = "Choose an SAE of these, or run the model again with this one and --save-vectors."


@dataclass
class TokenTextsByNumber:
    """A tokenizer that knows the texts of single tokens."""

    texts: dict[int, str] = field(default_factory=dict)

    def __call__(self, text: str, **_: Any) -> SimpleNamespace:  # noqa: ANN401  (a tokenizer's options)
        """Return no tokens for any text: here each text of a token stands alone."""
        del text
        return SimpleNamespace(input_ids=[])

    def decode(self, ids: Sequence[int], **_: Any) -> str:  # noqa: ANN401  (as above)
        """Return the text of tokens."""
        return "".join(map(self.convert_ids_to_tokens, ids))

    def convert_ids_to_tokens(self, token: int) -> str:
        """Return the text of a token."""
        return self.texts[token]


@dataclass
class StandIn:
    """What scoring without patched runs asks of a model, answered from a folder of vectors."""

    vectors: Vectors
    norm_weights: Mapping[str, Tensor] = field(default_factory=dict)
    tokenizer: TokenTextsByNumber = field(default_factory=TokenTextsByNumber)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def take(self, part: Part) -> None:
        """Take what a part holds beside its batches."""
        self.norm_weights = part.norm_weights
        self.tokenizer.texts.update(part.token_texts)

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """The devices whose memory scoring needs."""
        return (self.device,)

    @property
    def name(self) -> str:
        """The name of the model in which the vectors were captured."""
        return str(self.vectors.model["name"])

    @property
    def uses_rms_norm(self) -> bool:
        """Whether its norms keep the mean of the residual stream."""
        return self.vectors.origin.uses_rms_norm

    @property
    def n_layers(self) -> int:
        """The number of its layers."""
        return self.vectors.origin.n_layers

    def next_norm_weights(self, hook_name: str) -> Tensor | None:
        """Return how the norms above a hook point weight the dimensions of the stream."""
        return self.norm_weights.get(hook_name)

    def check_hook(self, name: str, *, written: bool = False) -> None:
        """Raise SettingsError for a hook point without vectors or, if it is written, gradients."""
        origin = self.vectors.origin
        read_only = name in origin.read_only
        if name in origin.norm_weights or (read_only and not written):
            return
        held = ", ".join(origin.norm_weights)
        if origin.read_only:
            held += f"; and, without gradients, {', '.join(origin.read_only)}"
        what = "gradients" if read_only else "vectors"
        msg = f"{self.vectors.folder} has no {what} of {name}; it has those of {held}."
        raise SettingsError(msg, REMEDY)

    def free_memory(self) -> None:
        """Do nothing: this machine's memory is free once tensors are."""
