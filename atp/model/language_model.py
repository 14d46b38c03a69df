"""Model: a language model behind a TransformerBridge, and passes over batches of token ids."""

from __future__ import annotations

import gc
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch

from atp.errors import SettingsError, did_you_mean
from atp.model.bridge_patches import set_batch_size
from atp.model.hook_names import layer_of, layers_before
from atp.model.kv_cache import CacheFilledError, PrefixCache, ReadCache, keeps_all_keys
from atp.model.norm_weights import next_norm_weights
from atp.model.resume import LayerOutput, recorded_layers, skipped_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    from atp.model.head import TokenHead

HOOK_LEVEL = -1
"""Marks the hooks of atp, which the bridge must not remove after a pass of its own."""


@dataclass(frozen=True)
class Model:
    """A language model by its name in results, its tokenizer and its unembedding."""

    name: str
    origin: dict[str, str]
    """The `revision`, a commit, of a hub model; the `sha256` of local files."""
    bridge: TransformerBridge
    tokenizer: Any
    """The model's own tokenizer, as published (transformer_lens alters the copy it keeps)."""
    head: TokenHead
    device: torch.device
    """Of batches; of a model that is split, where its embedding is."""
    dtype: torch.dtype

    def __repr__(self) -> str:
        where = ", ".join(map(str, self.devices))
        return f"Model({self.name}, {where}, {str(self.dtype).removeprefix('torch.')})"

    @cached_property
    def devices(self) -> tuple[torch.device, ...]:
        """The device of its weights, or the cards that it is split over."""
        devices = {weight.device for weight in self.bridge.original_model.parameters()}
        return tuple(sorted(devices, key=str))

    @property
    def attention(self) -> str:
        """How it computes attention, "eager" or "sdpa"."""
        return str(self.bridge.original_model.config._attn_implementation)  # noqa: SLF001  (there is no public way)

    @property
    def n_ctx(self) -> int:
        """The longest sequence the model can read, in tokens."""
        return int(self.bridge.cfg.n_ctx)

    @property
    def n_layers(self) -> int:
        """The number of its layers."""
        return int(self.bridge.cfg.n_layers)

    @property
    def bos_token_id(self) -> int | None:
        """The token that starts every sequence; None when the model has none (Qwen, say)."""
        bos: int | None = self.tokenizer.bos_token_id
        return bos

    @property
    def keeps_all_keys(self) -> bool:
        """Whether a PrefixCache holds all that the layers keep of earlier tokens."""
        return keeps_all_keys(self.bridge.original_model)

    @property
    def layer_kinds(self) -> dict[str, int]:
        """How many layers are of which kind, as Transformers names them, where it does."""
        config = self.bridge.original_model.config.get_text_config()
        return dict(Counter(getattr(config, "layer_types", None) or ()))

    def new_cache(
        self, *, layers: int | None = None, kept_from: int | None = None
    ) -> PrefixCache | None:
        """Return an empty cache of the first layers, by default all; None if it cannot serve."""
        if not self.keeps_all_keys:
            return None
        return PrefixCache(layers or int(self.bridge.cfg.n_layers), kept_from)

    def fill(self, cache: PrefixCache, ids: Tensor, mask: Tensor, positions: Tensor) -> None:
        """Add the keys and values of new tokens to a cache; arguments as for `hidden`."""
        cache.filling = True
        try:
            with suppress(CacheFilledError):  # ends the pass once the last layer has them
                self.hidden(ids, mask, positions, cache)
        finally:
            cache.filling = False

    def hidden(
        self, ids: Tensor, mask: Tensor, positions: Tensor, cache: PrefixCache | ReadCache | None
    ) -> Tensor:
        """Return the final hidden state after the last norm, (batch, new, d_model).

        Ids and positions are (batch, new). The mask, (batch, cached + new), is 0 for padding.
        """
        set_batch_size(self.bridge, len(ids))
        arguments = {
            "position_ids": positions,
            "past_key_values": cache,
            "use_cache": cache is not None,
        }
        known = {name: arguments[name] for name in self._arguments & arguments.keys()}
        output = self.bridge.original_model.base_model(input_ids=ids, attention_mask=mask, **known)
        hidden: Tensor = output.last_hidden_state
        return hidden.to(self.device)

    @cached_property
    def _arguments(self) -> frozenset[str]:
        """The names that a pass takes; a recurrent model has no position ids, for example."""
        return frozenset(signature(self.bridge.original_model.base_model.forward).parameters)

    def resume(  # noqa: PLR0913, PLR0917  (a pass needs them)
        self,
        layers: int,
        layer_output: LayerOutput | None,
        ids: Tensor,
        mask: Tensor,
        positions: Tensor,
        cache: ReadCache | None,
    ) -> Tensor:
        """Run only the layers after the first ones; all else is as for `hidden`."""
        with skipped_layers(self.bridge, layers, layer_output):
            return self.hidden(ids, mask, positions, cache)

    def recorded_layers(
        self, layers: Iterable[int]
    ) -> AbstractContextManager[dict[int, LayerOutput]]:
        """Return a context in which a pass saves the output of its first n layers, by n."""
        return recorded_layers(self.bridge, layers)

    @property
    def uses_rms_norm(self) -> bool:
        """Whether its norms keep the mean of the residual stream."""
        return bool(self.bridge.cfg.uses_rms_norm)

    def next_norm_weights(self, hook_name: str) -> Tensor | None:
        """Return how the norms above a hook point weight the dimensions of the stream."""
        weights = next_norm_weights(self.bridge, hook_name)
        return None if weights is None else weights.to(self.device)

    def layers_before(self, hook_name: str) -> int:
        """Return how many layers have run when a hook point fires, with its own if it ends it."""
        return layers_before(hook_name)

    def layers_through(self, hook_name: str) -> int:
        """Return how many layers a pass must enter until a hook point fires."""
        layer = layer_of(hook_name)
        return int(self.bridge.cfg.n_layers) if layer is None else layer + 1

    @cached_property
    def _hook_points(self) -> dict[str, Any]:
        """The hook points by all their names; the bridge takes 20 ms to collect them."""
        return dict(self.bridge.hook_dict)

    @contextmanager
    def hooks(self, hooks: Iterable[tuple[str, Callable[..., Tensor]]]) -> Iterator[None]:
        """Activate (hook name, function) pairs while the context lasts.

        A name that the model lacks never fires. Contexts may be nested: the outer one acts first.
        """
        added = []
        try:
            for name, function in hooks:
                point = self._hook_points.get(name)
                if point is not None:
                    point.add_hook(function, level=HOOK_LEVEL)
                    added.append((point, point.fwd_hooks[-1]))
            yield
        finally:
            for point, handle in added:
                handle.hook.remove()
                point.fwd_hooks = [other for other in point.fwd_hooks if other is not handle]

    def check_hook(self, name: str) -> None:
        """Raise SettingsError for a hook point that does not exist: the bridge ignores it."""
        if name not in self._hook_points:
            msg = f"{self.name} has no hook point {name!r}."
            raise SettingsError(msg, did_you_mean(name, self._hook_points))

    def free_memory(self) -> None:
        """Release the memory of a batch that failed."""
        gc.collect()
        with suppress(RuntimeError):  # of a device that is lost: the work itself will tell
            self.release_memory()

    def release_memory(self) -> None:
        """Give memory that torch keeps in reserve back to the device. Slow: not for every batch."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # of every card
