"""Model: a language model behind TransformerBridge, ready to be read from.

Parameters are frozen, the model is in evaluation mode, and the weights are not processed in any
way (no folding, no centring): that is the residual stream that SAEs were trained on.
"""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.utils.tqdm import disable_progress_bars
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.utils.logging import disable_progress_bar

from atp.errors import AtpError, SettingsError, UnavailableError, did_you_mean
from atp.model.head import TokenHead
from atp.model.names import check_model_name, is_local
from atp.model.provenance import hub_commit, local_origin
from atp.settings import local_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor


@dataclass(frozen=True)
class Model:
    """A language model and what is needed to run it over batches of token ids."""

    name: str
    """Hub name, or the name of the folder or file it came from."""
    origin: dict[str, str]
    """What pins the weights: {"revision": commit} on the hub, {"sha256": ...} of local files."""
    bridge: TransformerBridge
    tokenizer: Any
    """The model's own tokenizer, as published (transformer_lens alters the copy it keeps)."""
    head: TokenHead
    device: torch.device
    dtype: torch.dtype

    @property
    def n_ctx(self) -> int:
        """The longest sequence the model can read, in tokens."""
        return int(self.bridge.cfg.n_ctx)

    @property
    def bos_token_id(self) -> int | None:
        """The token that starts every sequence; None when the model has none (Qwen, say)."""
        bos: int | None = self.tokenizer.bos_token_id
        return bos

    def new_cache(self) -> DynamicCache:
        """Return an empty key-value cache with the model's own layer types."""
        return DynamicCache(config=self.bridge.original_model.config)

    def hidden(
        self, ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache | None
    ) -> Tensor:
        """Run the layers, not the unembedding.

        Args:
            ids: token ids, (batch, new).
            mask: 1 for real tokens, 0 for padding, cached ones included, (batch, cached + new).
            positions: position ids of the new tokens, (batch, new).
            cache: keys and values of the tokens before; grows by the new ones. None: none before.

        Returns:
            The final hidden state after the last norm, (batch, new, d_model).
        """
        if hasattr(self.bridge, "pos_embed"):  # what the bridge's own forward() tells its embedding
            self.bridge.pos_embed._current_batch_size = len(ids)  # noqa: SLF001
        output = self.bridge.original_model.base_model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def hooks(
        self, hooks: Iterable[tuple[str, Callable[..., Tensor]]]
    ) -> AbstractContextManager[Any]:
        """Return a context in which each (hook name, function) pair is active."""
        context: AbstractContextManager[Any] = self.bridge.hooks(fwd_hooks=list(hooks))
        return context

    def free_memory(self) -> None:
        """Give cached memory back to the device, after a batch that did not fit."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def check_hook(self, name: str) -> None:
        """Make sure that a hook point exists: the bridge ignores unknown names silently.

        Raises:
            SettingsError: it does not.
        """
        if name not in self.bridge.hook_dict:
            msg = f"{self.name} has no hook point {name!r}."
            raise SettingsError(msg, did_you_mean(name, self.bridge.hook_dict))


def without_progress_bars() -> None:
    """Keep the libraries' own bars out of a log."""
    disable_progress_bar()
    disable_progress_bars()


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that the device or the machine has no memory left."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def choose_device(name: str | None) -> torch.device:
    """Return the named device, or the best one there is.

    Raises:
        UnavailableError: the named device is not there.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
    }
    if not there[device.type]:
        msg = f"the device {name} is not available: torch {torch.__version__} does not see it."
        raise UnavailableError(msg, "Use --device=cpu, or check the driver and `nvidia-smi`.")
    return device


def choose_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """Return the named dtype; by default float32 on a CPU and bfloat16 elsewhere."""
    default = "float32" if device.type == "cpu" else "bfloat16"
    dtype: torch.dtype = getattr(torch, name or default)
    return dtype


def load_model(
    name: str,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | None = None,
) -> Model:
    """Load a language model.

    Args:
        name: a hub name, a local folder in Hugging Face format, or a GGUF file.
        revision: branch, tag or commit of a hub model.
        device: where to put it; the GPU if there is one.
        dtype: "float32" or "bfloat16"; float32 on a CPU and bfloat16 elsewhere by default.

    Raises:
        SettingsError: the name cannot be a model.
        UnavailableError: the model cannot be had; says why.
    """
    check_model_name(name, revision)
    place = choose_device(str(device) if device else None)
    kind = choose_dtype(dtype, place)
    try:
        if is_local(name):
            bridge, tokenizer, origin = _from_disk(local_path(name), place, kind)
        else:
            bridge, tokenizer, origin = _from_hub(name, revision, place, kind)
        bridge.eval()
        for parameter in bridge.original_model.parameters():
            parameter.requires_grad_(requires_grad=False)
        head = TokenHead.of(bridge.original_model)
        head.prove(bridge.original_model, tokenizer.bos_token_id, place)
    except AtpError:
        raise
    except Exception as error:  # the libraries raise what they like
        raise _cannot_load(name, error) from error
    short = local_path(name).resolve().name if is_local(name) else name
    return Model(short.removesuffix(".gguf"), origin, bridge, tokenizer, head, place, kind)


Loaded = tuple[TransformerBridge, Any, dict[str, str]]


def _placement(device: torch.device) -> dict[str, Any]:
    """Load straight onto an accelerator; a CPU needs no map."""
    if device.type == "cpu":
        return {"device": "cpu"}
    return {"device_map": {"": str(device)}}


def _from_hub(name: str, revision: str | None, device: torch.device, dtype: torch.dtype) -> Loaded:
    tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
    bridge = TransformerBridge.boot_transformers(
        name, dtype=dtype, revision=revision, **_placement(device)
    )
    return bridge, tokenizer, {"revision": hub_commit(name, revision)}


def _from_disk(path: Path, device: torch.device, dtype: torch.dtype) -> Loaded:
    if path.is_file():
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        hf_model = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=dtype, attn_implementation="eager"
        ).to(device)
        bridge = TransformerBridge.boot_transformers(
            str(path), hf_model=hf_model, tokenizer=tokenizer, dtype=dtype
        )
        return bridge, tokenizer, local_origin(path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    bridge = TransformerBridge.boot_transformers(str(path), dtype=dtype, **_placement(device))
    return bridge, tokenizer, local_origin(path)


def _cannot_load(name: str, error: Exception) -> UnavailableError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
    hint = "Check the name."
    if "gated" in str(error).lower() or "401" in reason or "403" in reason:
        hint = f"Accept its licence at https://huggingface.co/{name} and set HF_TOKEN."
    elif os.environ.get("HF_HUB_OFFLINE"):
        hint = "HF_HUB_OFFLINE is set: fetch the model first, or unset it."
    elif is_local(name):
        hint = "Check that the folder is complete."
    return UnavailableError(f"the model {name} cannot be loaded: {reason}", hint)
