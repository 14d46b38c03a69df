"""Model: a language model behind TransformerBridge, ready to be read from.

Parameters are frozen, the model is in evaluation mode, and the weights are not processed in any
way (no folding, no centring): that is the residual stream that SAEs were trained on.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.utils.tqdm import disable_progress_bars
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from atp.errors import AtpError, SettingsError, UnavailableError, did_you_mean
from atp.model.bridge_patches import skip_unwatched_hooks
from atp.model.head import TokenHead
from atp.model.kv_cache import CacheFilledError, PrefixCache, ReadCache
from atp.model.names import OFFLINE, check_model_name, is_local
from atp.model.provenance import hub_commit, local_origin
from atp.model.resume import LayerOutput, layers_before, layers_through, left_out, reading
from atp.runtime.paths import local_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedModel


HOOK_LEVEL = -1
"""Marks the hooks that are atp's: what the bridge removes after a pass of its own leaves them."""


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

    def new_cache(self, *, layers: int | None = None, kept_from: int | None = None) -> PrefixCache:
        """Return an empty key-value cache.

        Args:
            layers: to be filled; all by default.
            kept_from: the first layer whose keys and values are still there after a pass has used
                them; none are, by default.
        """
        return PrefixCache(layers or int(self.bridge.cfg.n_layers), kept_from)

    def fill(self, cache: PrefixCache, ids: Tensor, mask: Tensor, positions: Tensor) -> None:
        """Add the keys and values of new tokens to a cache, and compute nothing else.

        Args:
            cache: of the tokens before; grows by the new ones.
            ids: token ids, (batch, new).
            mask: 1 for real tokens, 0 for padding, cached ones included, (batch, cached + new).
            positions: position ids of the new tokens, (batch, new).
        """
        cache.filling = True
        try:
            self._run(ids, mask, positions, cache)
        except CacheFilledError:
            pass  # as it should: the last layer has its keys and values
        finally:
            cache.filling = False

    def hidden(
        self, ids: Tensor, mask: Tensor, positions: Tensor, cache: PrefixCache | None
    ) -> Tensor:
        """Run the layers, not the unembedding.

        Args:
            ids: token ids, (batch, new).
            mask: 1 for real tokens, 0 for padding, cached ones included, (batch, cached + new).
            positions: position ids of the new tokens, (batch, new).
            cache: of the tokens before, used up by this pass. None: there are none.

        Returns:
            The final hidden state after the last norm, (batch, new, d_model).
        """
        return self._run(ids, mask, positions, cache)

    def resume(  # noqa: PLR0913, PLR0917  (as a pass needs them)
        self,
        layers: int,
        entering: LayerOutput | None,
        ids: Tensor,
        mask: Tensor,
        positions: Tensor,
        cache: ReadCache,
    ) -> Tensor:
        """Run the layers that come after the first ones, on what came out of these.

        Args:
            layers: how many the first ones are.
            entering: what came out of them, one row; None for 0. A hook may make more rows of it.
            ids: token ids, (1, new).
            mask: 1 for each token, cached ones included, (1, cached + new).
            positions: position ids of the new tokens, (1, new).
            cache: of the tokens before.

        Returns:
            The final hidden state after the last norm, (rows, new, d_model).
        """
        with left_out(self.bridge, layers, entering):
            return self._run(ids, mask, positions, cache)

    def layers_before(self, hook_name: str) -> int:
        """Return how many layers are done when a hook point fires, its own one if it ends it."""
        return layers_before(hook_name)

    def layers_through(self, hook_name: str) -> int:
        """Return how many layers a pass must begin until a hook point fires."""
        return layers_through(hook_name) or int(self.bridge.cfg.n_layers)

    def reading(self, layers: Iterable[int]) -> AbstractContextManager[dict[int, LayerOutput]]:
        """Return a context in which a pass leaves what comes out of the first n layers, by n."""
        return reading(self.bridge, layers)

    def _run(
        self,
        ids: Tensor,
        mask: Tensor,
        positions: Tensor,
        cache: PrefixCache | ReadCache | None,
    ) -> Tensor:
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

    @cached_property
    def _hook_points(self) -> dict[str, Any]:
        """The hook points by all their names; the bridge takes 20 ms to put them together."""
        return dict(self.bridge.hook_dict)

    @contextmanager
    def hooks(self, hooks: Iterable[tuple[str, Callable[..., Tensor]]]) -> Iterator[None]:
        """Have each (hook name, function) pair active while the context lasts.

        A name that the model lacks, or whose hook point is switched off, never fires. Contexts may
        be nested, on one hook point too: each removes its own hooks, and the first one acts first.
        """
        points = [
            (self._hook_points[name], function)
            for name, function in hooks
            if name in self._hook_points
        ]
        added = []
        try:
            for point, function in points:
                point.add_hook(function, level=HOOK_LEVEL)
                added.append((point, point.fwd_hooks[-1]))
            yield
        finally:
            for point, handle in added:
                handle.hook.remove()
                point.fwd_hooks = [other for other in point.fwd_hooks if other is not handle]

    def free_memory(self) -> None:
        """Find what nothing refers to any more, after a batch that failed, and release it."""
        gc.collect()
        self.release_memory()

    def release_memory(self) -> None:
        """Give memory that torch keeps in reserve back to the device. Slow: not for every batch."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def check_hook(self, name: str) -> None:
        """Make sure that a hook point exists: the bridge ignores unknown names silently.

        Raises:
            SettingsError: it does not.
        """
        if name not in self._hook_points:
            msg = f"{self.name} has no hook point {name!r}."
            raise SettingsError(msg, did_you_mean(name, self._hook_points))


def quiet_libraries() -> None:
    """Keep the libraries' own lines and bars out of a log; what they say comes through the log."""
    for name in ("transformers", "huggingface_hub"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    if not sys.stderr.isatty():
        disable_progress_bar()
        disable_progress_bars()


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
    local = is_local(name)
    try:
        with ThreadPoolExecutor(max_workers=1) as pool:  # hashing gigabytes takes a while
            origin = pool.submit(local_origin, local_path(name)) if local else None
            bridge, tokenizer = _load(name, revision, place, kind)
            pinned = origin.result() if origin else {"revision": hub_commit(name, revision)}
        return wrap(short_name(name), bridge, tokenizer, pinned)
    except AtpError:
        raise
    except Exception as error:  # the libraries raise what they like
        raise cannot_load(name, error) from error


def wrap(name: str, bridge: TransformerBridge, tokenizer: Any, origin: dict[str, str]) -> Model:  # noqa: ANN401
    """Make a Model of a bridge: frozen, in evaluation mode, its unembedding proved.

    Args:
        name: what results call the model.
        bridge: its weights stay as they are.
        tokenizer: the model's own, as published.
        origin: what pins the weights.

    Raises:
        UnavailableError: the model does something unknown to its logits.
    """
    hf_model = bridge.original_model
    bridge.eval()
    skip_unwatched_hooks(bridge)
    for parameter in hf_model.parameters():
        parameter.requires_grad_(requires_grad=False)
    weight = next(hf_model.parameters())
    head = TokenHead.of(hf_model)
    head.check_logits(hf_model, tokenizer.bos_token_id, weight.device)
    return Model(name, origin, bridge, tokenizer, head, weight.device, weight.dtype)


def load_plain(
    name: str, revision: str | None, device: torch.device, dtype: torch.dtype
) -> PreTrainedModel:
    """Load the plain Hugging Face model, with no bridge around it.

    Args:
        name: as for `load_model`.
        revision: branch, tag or commit of a hub model.
        device: where to put it.
        dtype: of its weights.
    """
    source, options = source_of(name, revision)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        source, **options, dtype=dtype, attn_implementation="eager"
    )
    return model.to(device).eval()


def load_tokenizer(name: str, revision: str | None) -> Any:  # noqa: ANN401  (transformers' own)
    """Load a model's own tokenizer, as published.

    Raises:
        UnavailableError: there is none: transformers makes one that knows no word, without a word.
    """
    source, options = source_of(name, revision)
    tokenizer = AutoTokenizer.from_pretrained(source, **options)
    if not tokenizer("a", add_special_tokens=False).input_ids:
        msg = f"the model {name} cannot be loaded: it has no tokenizer that knows any text."
        raise UnavailableError(msg, "Put its tokenizer files beside config.json.")
    return tokenizer


def short_name(name: str) -> str:
    """Return what results call a model: its hub name, or the name of its folder or file."""
    return local_path(name).resolve().name.removesuffix(".gguf") if is_local(name) else name


def source_of(name: str, revision: str | None) -> tuple[str | Path, dict[str, Any]]:
    """Return what transformers calls a model, and what it needs to know to load it."""
    if not is_local(name):
        return name, {"revision": revision}
    path = local_path(name)
    return (path.parent, {"gguf_file": path.name}) if path.is_file() else (path, {})


def _load(
    name: str, revision: str | None, device: torch.device, dtype: torch.dtype
) -> tuple[TransformerBridge, Any]:
    source, options = source_of(name, revision)
    tokenizer = load_tokenizer(name, revision)
    if "gguf_file" in options:
        bridge = TransformerBridge.boot_transformers(
            name,
            hf_model=load_plain(name, revision, device, dtype),
            tokenizer=deepcopy(tokenizer),  # the bridge alters it
            device=str(device),
            dtype=dtype,
        )
        return bridge, tokenizer
    # Straight onto an accelerator; a CPU needs no map.
    place = {"device": "cpu"} if device.type == "cpu" else {"device_map": {"": str(device)}}
    bridge = TransformerBridge.boot_transformers(str(source), dtype=dtype, **options, **place)
    return bridge, tokenizer


def cannot_load(name: str, error: Exception) -> UnavailableError:
    """Return the error that says why a model cannot be had, and what may mend it."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
    hint = "Check the name."
    if "gated" in str(error).lower() or "401" in reason or "403" in reason:
        hint = f"Accept its licence at https://huggingface.co/{name} and set HF_TOKEN."
    elif is_local(name):
        hint = "Check that the folder is complete."
    elif os.environ.get("HF_HUB_OFFLINE"):
        hint = OFFLINE
    elif "connect" in reason:
        hint = "Check the network, bring it with atp fetch first, or name a model that is here."
    return UnavailableError(f"the model {name} cannot be loaded: {reason}", hint)
