"""A caller's own SAE as a Dictionary: it shares the caller's weights, and all else is new.

To move it to a device, or to float32, copies the weights and leaves the caller's where they are.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn

from atp.errors import SettingsError
from atp.model.dictionaries.loading import Dictionary, check_scorable, label_of, sha256_of

if TYPE_CHECKING:
    from sae_lens import SAE


def borrow(sae: object) -> Dictionary:
    """Return a Dictionary of a SAELens SAE; or of a Dictionary, for one call.

    A SettingsError says that it is no SAE, or one that cannot be scored.
    """
    if isinstance(sae, Dictionary):
        return replace(sae, sae=_shared(sae.sae))
    from sae_lens import SAE  # noqa: PLC0415  (8 s; who holds an SAE has it imported)

    if not isinstance(sae, SAE):
        msg = f"a {type(sae).__name__} is no SAE."
        hint = "Give a name, RELEASE:SAE_ID or a folder, or an SAE of SAELens."
        raise SettingsError(msg, hint)
    name = label_of(sae) if sae.cfg.metadata.hook_name else "SAE in memory"
    check_scorable(name, sae)
    own = _shared(sae)
    return Dictionary.of(name, name, own, {"sha256": sha256_of(own)})


def _shared(sae: SAE[Any]) -> SAE[Any]:
    """Return a frozen float32 SAE in evaluation mode that shares weights.

    It is built anew: the functions that an SAE keeps for its normalisation refer to that SAE, so
    those of a plain copy would leave their state in the caller's.
    """
    config = replace(deepcopy(sae.cfg), device="meta", dtype="float32")  # no memory for weights
    own = type(sae)(config)
    parameters = dict(sae.named_parameters())
    weights = {
        name: nn.Parameter(tensor.detach().float(), requires_grad=False)
        if name in parameters
        else tensor
        for name, tensor in sae.state_dict().items()
    }
    own.load_state_dict(weights, assign=True)
    own.requires_grad_(requires_grad=False)
    own.device = next(own.parameters()).device
    own.cfg.device = str(own.device)
    return own.eval()
