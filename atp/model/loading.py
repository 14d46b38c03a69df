"""Loads a language model, or its tokenizer alone, from the hub, a folder or a GGUF file.

Parameters are frozen, the model is in evaluation mode, and the weights are not processed in any way
(no folding, no centring): SAEs were trained on that residual stream.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from huggingface_hub.utils.tqdm import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import (
    disable_progress_bar,
    enable_progress_bar,
    is_progress_bar_enabled,
)

from atp.errors import AtpError, SettingsError, UnavailableError
from atp.model.bridge_patches import boot, skip_unwatched_hooks
from atp.model.devices import DeviceMap, choose_device, choose_dtype, choose_split, first_device
from atp.model.fused_attention import fuse_attention
from atp.model.gguf_file import DENSE, gguf_config, gguf_tokenizer, quick_names
from atp.model.head import TokenHead
from atp.model.language_model import Model
from atp.model.names import OFFLINE, check_model_name, is_local, short_name, transformers_source
from atp.model.provenance import hub_commit, local_origin
from atp.runtime.paths import local_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel

TEXT_ALONE = {"qwen3_5": "Qwen3_5ForCausalLM", "qwen3_5_moe": "Qwen3_5MoeForCausalLM"}
"""By the kind of a model that also reads images: the class of its language model, to be loaded
alone. The bridge of the whole model needs torchvision."""
STATEFUL = ("bamba", "mamba", "mamba2", "nemotron_h", "olmo_hybrid")
"""Kinds of models for which TransformerLens takes a device, and no map of devices."""
PACKINGS = ("fp8", "gguf", "mxfp4", "torchao")
"""Ways to pack weights into 8 or 4 bits; docs/library.md has what was tried."""


def quiet_libraries() -> None:
    """Route the libraries' messages through the log, and switch their progress bars off."""
    for name in ("transformers", "huggingface_hub"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    disable_progress_bar()
    disable_progress_bars()


def load_model(  # noqa: PLR0913  (each but the first by name)
    name: str,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    device_map: DeviceMap | None = None,
    dtype: str | None = None,
    attention: str = "eager",
) -> Model:
    """Load a model of the hub, or a local folder or GGUF file, or raise an AtpError that says why.

    By default it is in float32 on a CPU, in bfloat16 on a GPU, and on the GPU if there is one.
    """
    check_model_name(name, revision)
    split = choose_split(str(device) if device else None, device_map)
    place = first_device(split) if split else choose_device(str(device) if device else None)
    torch_dtype = choose_dtype(dtype, place)
    source, options = transformers_source(name, revision)
    # Hashing gigabytes takes a while: a thread does it meanwhile.
    with loading_errors(name), ThreadPoolExecutor(max_workers=1) as pool:
        hashing = pool.submit(local_origin, local_path(name)) if is_local(name) else None
        tokenizer = load_tokenizer(name, revision)
        if "gguf_file" in options:
            bridge = boot(
                name,
                hf_model=load_plain(name, revision, place, torch_dtype, split),
                tokenizer=deepcopy(tokenizer),  # the bridge alters it
                device=str(place),
                dtype=torch_dtype,
            )
        else:
            config = load_config(name, revision)
            check_packing(config, name)
            # Weights go straight onto an accelerator; a CPU needs no map.
            no_map = place.type == "cpu" or config.model_type in STATEFUL
            if config.model_type in TEXT_ALONE:
                options["hf_config_overrides"] = {"architectures": [TEXT_ALONE[config.model_type]]}
            where = {"device_map": split or {"": str(place)}}
            options |= {"device": str(place)} if no_map and not split else where
            try:
                bridge = boot(str(source), dtype=torch_dtype, **options)
            except ValueError as error:
                raise _not_split(name, error) if split else error from error
        origin = hashing.result() if hashing else {"revision": hub_commit(name, revision)}
        if attention == "sdpa":
            try:
                fuse_attention(bridge)
            except ValueError as error:
                msg = f"--attention=sdpa is not for {name}: {error}."
                raise SettingsError(msg, "Leave it out.") from error
        return wrap(short_name(name), bridge, tokenizer, origin)


def _not_split(name: str, error: ValueError) -> UnavailableError:
    reason = str(error).splitlines()[0]
    if "hf_device_map" in reason:  # a part would stay on the host
        reason = "the free memory of the GPUs does not hold its weights."
    msg = f"the model {name} cannot be split: {reason}"
    hint = "Use more GPUs or --model-dtype=bfloat16; or leave --device-map out."
    return UnavailableError(msg, hint)


def wrap(name: str, bridge: TransformerBridge, tokenizer: Any, origin: dict[str, str]) -> Model:  # noqa: ANN401
    """Make a Model of a bridge: frozen, in evaluation mode, its unembedding checked."""
    hf_model = bridge.original_model
    bridge.eval()
    skip_unwatched_hooks(bridge)
    for parameter in hf_model.parameters():
        parameter.requires_grad_(requires_grad=False)
    head = TokenHead.of(hf_model)
    device = hf_model.get_input_embeddings().weight.device
    head.check_logits(hf_model, tokenizer.bos_token_id, device)
    dtype = next(hf_model.parameters()).dtype
    return Model(name, origin, bridge, tokenizer, head, device, dtype)


def load_plain(
    name: str,
    revision: str | None,
    device: torch.device,
    dtype: torch.dtype,
    split: DeviceMap | None = None,
) -> PreTrainedModel:
    """Load the plain Hugging Face model, without a bridge around it: on a device, or split."""
    source, options = transformers_source(name, revision)
    if "gguf_file" in options:
        options |= {"config": load_config(name, revision), "quantization_config": DENSE}
    with quick_names():
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            source, **options, dtype=dtype, attn_implementation="eager", device_map=split
        )
    return (model if split else model.to(device)).eval()


def load_config(name: str, revision: str | None) -> Any:  # noqa: ANN401  (transformers' own)
    """Load a model's configuration."""
    source, options = transformers_source(name, revision)
    if "gguf_file" in options:
        return gguf_config(local_path(name))
    return AutoConfig.from_pretrained(source, **options)


def check_packing(config: Any, name: str) -> None:  # noqa: ANN401  (as above)
    """Raise UnavailableError for weights of few bits that give other numbers than a plain pass."""
    packing = getattr(config, "quantization_config", None)
    if packing is None:
        return
    method = packing["quant_method"] if isinstance(packing, dict) else packing.quant_method
    method = getattr(method, "value", method)  # of an enumeration
    if method not in PACKINGS:
        msg = f"the weights of {name} are packed by {method}."
        hint = f"atp reads {', '.join(PACKINGS)}. Name the model in bfloat16 or float32."
        raise UnavailableError(msg, hint)


def load_tokenizer(name: str, revision: str | None) -> Any:  # noqa: ANN401  (transformers' own)
    """Load a model's own tokenizer, as published."""
    source, options = transformers_source(name, revision)
    if "gguf_file" in options:
        tokenizer: Any = gguf_tokenizer(local_path(name))
    else:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
    # Where there is none, Transformers makes one without a vocabulary.
    if not tokenizer("a", add_special_tokens=False).input_ids:
        msg = f"the model {name} cannot be loaded: it has no tokenizer that knows any text."
        raise UnavailableError(msg, "Put its tokenizer files beside config.json.")
    return tokenizer


@contextmanager
def bars_on_a_terminal_only() -> Iterator[None]:
    """Turn the libraries' progress bars off until the context ends, except on a terminal."""
    if sys.stderr.isatty():
        yield
        return
    of_transformers, of_hub = is_progress_bar_enabled(), not are_progress_bars_disabled()
    disable_progress_bar()
    disable_progress_bars()
    try:
        yield
    finally:
        with warnings.catch_warnings(action="ignore"):  # the hub's variable may forbid a change
            if of_transformers:
                enable_progress_bar()  # the hub's, too
            (enable_progress_bars if of_hub else disable_progress_bars)()


@contextmanager
def loading_errors(name: str) -> Iterator[None]:
    """Turn any error of the libraries into the one that says why a model cannot be loaded."""
    try:
        yield
    except AtpError:
        raise
    except Exception as error:  # the libraries raise what they like
        lines = (line.strip() for line in str(error).splitlines())
        reason = next(filter(None, lines), repr(error))
        hint = "Check the name."
        if "gated" in str(error).lower() or "401" in reason or "403" in reason:
            hint = f"Accept its licence at https://huggingface.co/{name} and set HF_TOKEN."
        elif isinstance(error, ImportError):
            hint = "Install the package beside atp."
        elif is_local(name):
            hint = "Check that the folder is complete."
        elif os.environ.get("HF_HUB_OFFLINE"):
            hint = OFFLINE
        elif "connect" in reason:
            hint = "Check the network, run `atp fetch` first, or name a model on this machine."
        msg = f"the model {name} cannot be loaded: {reason}"
        raise UnavailableError(msg, hint) from error
