"""One layer of a cross-layer transcoder (CLT), as SAELens' Transcoder with several outputs.

SAELens sums the decoders of a layer's features into one. Here they stand side by side, one for each
layer that is written: d_out = layers * d_model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file

if TYPE_CHECKING:
    from torch import Tensor


def load_layer(
    repo_id: str,
    folder_name: str,
    device: str = "cpu",
    force_download: bool = False,  # noqa: FBT001, FBT002  (as SAELens calls it)
    cfg_overrides: dict[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, Tensor], None]:
    """Load layer `folder_name`, a number: a converter for SAELens' `from_pretrained`.

    W_dec_N.safetensors holds (d_sae, written layers, d_model): layer N and all above it. The bias
    of W_enc_N is that of layer N's output.
    """
    from sae_lens.loading.pretrained_sae_loaders import (  # noqa: PLC0415  (8 s)
        get_mntss_clt_layer_config_from_hf,
    )

    layer = int(folder_name)
    config = get_mntss_clt_layer_config_from_hf(
        repo_id, folder_name, device, force_download, cfg_overrides
    )
    tensors: dict[str, Tensor] = {}
    for part in ("enc", "dec"):
        file = hf_hub_download(repo_id, f"W_{part}_{layer}.safetensors")
        tensors |= {name: tensor.float() for name, tensor in load_file(file, device).items()}
    decoders, bias = tensors[f"W_dec_{layer}"], tensors[f"b_dec_{layer}"]
    d_sae, count, d_model = decoders.shape
    point = config["hook_name_out"].partition(f"blocks.{layer}.")[2]
    config["hook_name_out"] = [f"blocks.{layer + above}.{point}" for above in range(count)]
    config["d_out"] = count * d_model
    weights = {
        "W_enc": tensors[f"W_enc_{layer}"].T.contiguous(),
        "b_enc": tensors[f"b_enc_{layer}"],
        "W_dec": decoders.reshape(d_sae, count * d_model),
        "b_dec": torch.cat([bias, bias.new_zeros((count - 1) * d_model)]),
    }
    return config, weights, None
