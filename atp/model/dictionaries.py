"""Dictionary: a sparse autoencoder (SAE) and the hook point that it reads.

SAEs come from a SAELens release ("RELEASE:SAE_ID") or a local folder in SAELens format, are kept
in float32 whatever the model's dtype (near a JumpReLU threshold bfloat16 flips features), and are
checked against the model before anything is computed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from atp.errors import SettingsError, UnavailableError
from atp.model.names import check_sae_spec, split_spec
from atp.model.provenance import local_origin

if TYPE_CHECKING:
    import torch
    from sae_lens import SAE

UNSUITED = {
    "transcoder": "a transcoder does not reconstruct its own input",
    "temporal": "a temporal SAE reads the whole sequence, not one position",
}
"""Architectures of SAELens for which the score of one position is not defined."""


@dataclass(frozen=True)
class Dictionary:
    """An SAE and where in the model it reads."""

    spec: str
    """As the user named it."""
    label: str
    """Short name, for file names: layer31-16k."""
    hook_name: str
    sae: SAE[Any]
    origin: dict[str, str]
    """What pins the weights: their sha256, and the hub repository they came from."""

    @property
    def d_sae(self) -> int:
        """The number of features."""
        return int(self.sae.cfg.d_sae)

    @property
    def trained_on(self) -> str | None:
        """The name of the model it was trained on, if it says."""
        name = self.sae.cfg.metadata.model_name
        return str(name) if name else None

    def describe(self) -> dict[str, Any]:
        """Return what `metadata.atp` says of it."""
        return {
            "spec": self.spec,
            "architecture": self.sae.cfg.architecture(),
            "hook_name": self.hook_name,
            "d_sae": self.d_sae,
            "model_name": self.trained_on,
            **self.origin,
        }


def load_sae(spec: str, *, device: str | torch.device = "cpu") -> Dictionary:
    """Load an SAE.

    Args:
        spec: "RELEASE:SAE_ID" of SAELens, or a local folder in SAELens format.
        device: where to put it.

    Raises:
        SettingsError: no such SAE, or an architecture whose scores are not defined.
        UnavailableError: the SAE cannot be had; says why.
    """
    check_sae_spec(spec)
    # Imported here: it takes seconds, and every name has been checked by now.
    from sae_lens import SAE  # noqa: PLC0415

    named = split_spec(spec)
    try:
        if named is None:
            folder = Path(spec).expanduser()
            sae = SAE.load_from_disk(folder, device=str(device), dtype="float32")
            origin = local_origin(folder)
        else:
            sae = SAE.from_pretrained(*named, device=str(device), dtype="float32")
            origin = _hub_origin(*named)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
        msg = f"the SAE {spec} cannot be loaded: {reason}"
        raise UnavailableError(msg, "Check the name, the network and the cache.") from error
    for kind, reason in UNSUITED.items():
        if kind in sae.cfg.architecture():
            msg = f"--sae={spec} is a {sae.cfg.architecture()}: {reason}."
            raise SettingsError(
                msg, "Choose an SAE of the residual stream, an MLP or attention output."
            )
    if not sae.cfg.metadata.hook_name:
        msg = f"--sae={spec} does not say which hook point it reads (metadata.hook_name)."
        raise SettingsError(msg, "Add it to cfg.json.")
    sae.eval()
    for parameter in sae.parameters():
        parameter.requires_grad_(requires_grad=False)
    return Dictionary(spec, _label(sae), sae.cfg.metadata.hook_name, sae, origin)


def _label(sae: SAE[Any]) -> str:
    """Return a short name such as layer31-16k."""
    hook = sae.cfg.metadata.hook_name
    layer = re.search(r"\bblocks\.(\d+)\.", hook)
    width = f"{sae.cfg.d_sae // 1024}k" if sae.cfg.d_sae % 1024 == 0 else str(sae.cfg.d_sae)
    part = "" if "resid_post" in hook else "-" + hook.rpartition(".")[2].removeprefix("hook_")
    return f"layer{layer[1]}{part}-{width}" if layer else f"{hook.replace('.', '-')}-{width}"


def _hub_origin(release: str, sae_id: str) -> dict[str, str]:
    """Return repository, path and weights hash of an SAE in the hub cache.

    SAELens takes no revision for most releases, so the hash is what pins the weights.
    """
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415
    from sae_lens.loading.pretrained_saes_directory import (  # noqa: PLC0415
        get_repo_id_and_folder_name,
    )

    repository, folder = get_repo_id_and_folder_name(release, sae_id)
    for name in ("params.npz", "sae_weights.safetensors", "params.safetensors", "ae.pt"):
        found = try_to_load_from_cache(repository, f"{folder}/{name}")
        if isinstance(found, str):
            return {"repository": repository, "path": folder, **local_origin(Path(found).parent)}
    return {"repository": repository, "path": folder}
