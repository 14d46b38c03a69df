"""Changes to a TransformerBridge: it computes nothing that no hook watches; results stay the same.

It would keep the attention weights of every layer until a pass ends (1.3 GB for a row of 1,000
tokens of Gemma-2-9b), and compute each norm twice, once for its hook points (7 % of a pass). Of
gated delta layers it has its own version, with hook points inside, older than that of Transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.generalized_components.gated_delta_net import GatedDeltaNetBridge
from transformer_lens.model_bridge.generalized_components.normalization import NormalizationBridge
from transformers.modeling_utils import log_state_dict_report

from atp.errors import UnavailableError

if TYPE_CHECKING:
    from torch import Tensor


def boot(source: str, **options: Any) -> TransformerBridge:  # noqa: ANN401  (as the bridge's)
    """Boot a bridge; of a multimodal model without its processor of images.

    For some processors transformer_lens would install torchvision, with pip, while it runs. Raises
    UnavailableError if weights lack a tensor, which Transformers would fill at random.
    """
    with (
        patch("transformers.AutoProcessor.from_pretrained", return_value=None),
        patch("transformers.modeling_utils.log_state_dict_report", _refuse_missing),
    ):
        return TransformerBridge.boot_transformers(source, **options)


def _refuse_missing(**told: Any) -> None:  # noqa: ANN401  (as Transformers tells it)
    log_state_dict_report(**told)  # raises for sizes that differ
    if missing := sorted(told["loading_info"].missing_keys):
        msg = (
            f"the weights of {told['pretrained_model_name_or_path']} lack {len(missing)} tensors: "
        )
        msg += f"{', '.join(missing[:3])}."
        raise UnavailableError(msg, "Fetch or save the model again.")


def skip_unwatched_hooks(bridge: TransformerBridge) -> None:
    """Make a bridge compute only what its result, or a hook, needs."""
    bridge.original_model.config.output_attentions = False
    for module in bridge.original_model.modules():
        if isinstance(module, NormalizationBridge):
            _compute_once(module)
        elif isinstance(module, GatedDeltaNetBridge):
            vars(module)["forward"] = module._native_forward  # noqa: SLF001  (no public way)


def set_batch_size(bridge: TransformerBridge, rows: int) -> None:
    """Give a learned position embedding the batch size: its positions may be of one row."""
    if hasattr(bridge, "pos_embed"):
        bridge.pos_embed._current_batch_size = rows  # noqa: SLF001  (there is no public way)


def wire_anew(bridge: TransformerBridge) -> None:
    """Make a copied bridge capture in its own blocks: its hooks still write into the original's.

    The next pass installs them again.
    """
    for module in bridge.modules():
        if hasattr(module, "_teardown_capture_hooks"):
            module._teardown_capture_hooks()  # noqa: SLF001  (as above)


def _compute_once(norm: Any) -> None:  # noqa: ANN401  (a bridge module)
    """Replace the method that computes a norm twice: for its hooks, then for its result."""
    compute_with_hooks = norm._hf_autograd_forward_with_hooks  # noqa: SLF001  (as above)
    hook_points = (norm.hook_scale, norm.hook_normalized)

    def forward(x: Tensor) -> Any:  # noqa: ANN401
        if any(point.has_hooks() for point in hook_points):
            return compute_with_hooks(x)
        return norm.original_component(x).to(x.dtype)

    norm._hf_autograd_forward_with_hooks = forward  # noqa: SLF001
