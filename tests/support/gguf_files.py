"""GGUF files of tiny random models, with the names, keys and layouts of llama.cpp's converter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tiny
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

_SIZES = {
    "vocab_size": tiny.VOCABULARY,
    "hidden_size": tiny.D_MODEL,
    "num_hidden_layers": tiny.N_LAYERS,
    "num_attention_heads": 4,
    "initializer_range": 0.25,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_LONG = {**_SIZES, "max_position_embeddings": tiny.N_CTX}
_GATED = {**_LONG, "intermediate_size": 64, "num_key_value_heads": 2}
_BASE = {"rope_theta": 50_000.0}
_ROPE = {"rope_parameters": {"rope_type": "default", **_BASE}}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
_LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_GEMMA = {**_GATED, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16}
_CAPS = {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0}
_SLIDING = {"sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0}}
_GEMMA_3 = {**_GEMMA, "num_hidden_layers": 6}  # the last one is the first that does not slide

CONFIGS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bloom": ("bloom", "bloom", _SIZES),
    "falcon": ("falcon", "falcon", _SIZES),
    "gemma2": ("gemma2", "gemma2", {**_GEMMA, **_CAPS}),
    "gemma3": (
        "gemma3",
        "gemma3_text",
        {
            **_GEMMA_3,
            "rope_parameters": {
                "full_attention": {"rope_type": "default", **_BASE},
                **_SLIDING,
            },
        },
    ),
    "gemma3, scaled": (
        "gemma3",
        "gemma3_text",
        {
            **_GEMMA_3,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, **_BASE},
                **_SLIDING,
            },
        },
    ),
    "gpt2": ("gpt2", "gpt2", {**_SIZES, "n_positions": tiny.N_CTX}),
    "llama": ("llama", "llama", {**_GATED, **_ROPE, "head_dim": 8}),
    "llama, scaled": ("llama", "llama", {**_GATED, "rope_parameters": {**_LLAMA_3, **_BASE}}),
    "nemotron": ("nemotron", "nemotron", _GATED),
    "phi3": ("phi3", "phi3", {**_GATED, **_ROPE, "tie_word_embeddings": False}),
    "phi3, half rotary": (
        "phi3",
        "phi3",
        {**_GATED, "rope_parameters": {"partial_rotary_factor": 0.5, **_BASE}},
    ),
    "qwen2": ("qwen2", "qwen2", {**_GATED, **_ROPE}),
    "qwen2moe": (
        "qwen2moe",
        "qwen2_moe",
        {**_GATED, **_ROPE, **_EXPERTS, "shared_expert_intermediate_size": 32},
    ),
    "qwen3": ("qwen3", "qwen3", {**_GATED, **_ROPE, "head_dim": 16}),
    "qwen3moe": (
        "qwen3moe",
        "qwen3_moe",
        {**_GATED, **_ROPE, **_EXPERTS, "head_dim": 8, "norm_topk_prob": True},
    ),
    "stablelm": ("stablelm", "stablelm", _GATED),
    "starcoder2": ("starcoder2", "starcoder2", {**_GATED, **_ROPE}),
}
"""Models by name: their architecture in a GGUF file, in Transformers, and their configuration."""


def save(folder: Path, name: str) -> Path:
    """Write a tiny random model as a Hugging Face folder and, in it, as a GGUF file."""
    architecture, model_type, config = CONFIGS[name]
    torch.manual_seed(sum(map(ord, name)))
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(model_type, **config), dtype=torch.float32
    )
    with torch.no_grad():
        for parameter in model.parameters():  # so that no bias is 0, and no norm changes nothing
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    path = folder / "tiny-f32.gguf"
    write(path, architecture, model)
    return path


def write(path: Path, architecture: str, model: Any, changed: dict[str, Any] | None = None) -> None:
    """Write a model, or its header if it has no numbers; keys may be changed."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    keys = dict(_keys(model.config, architecture)) | (changed or {})
    for key, value in keys.items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        add[type(value)](f"{architecture}.{key}", value)
    _add_tokenizer(writer)
    number = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(number, model.config.num_hidden_layers)
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        for own_key, as_stored in _stored(architecture, key, tensor, model.config):
            name = names.get_name(own_key, try_suffixes=(".weight", ".bias"))
            assert name is not None, own_key
            whole = as_stored.squeeze().contiguous()
            if whole.is_meta:
                shape = list(whole.shape)
                writer.add_tensor_info(name, shape, np.dtype(np.float32), whole.nbytes)
            else:
                writer.add_tensor(name, whole.numpy())
    rope = getattr(model.config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "llama3":
        scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](model.config, torch.device("cpu"))
        count = len(scaled)
        plain = rope["rope_theta"] ** (-torch.arange(count) / count)
        writer.add_tensor("rope_freqs.weight", (plain / scaled).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    if model.device.type == "meta":
        writer.write_ti_data_to_file()
    else:
        writer.write_tensors_to_file()
    writer.close()


def _keys(config: Any, architecture: str) -> Iterator[tuple[str, float | str]]:
    """Yield the keys that say a model's sizes."""
    heads, width = config.num_attention_heads, config.hidden_size
    rope = getattr(config, "rope_parameters", None) or {}
    rope = rope.get("full_attention", rope)
    head_dim = getattr(config, "head_dim", None) or width // heads
    found = {
        "context_length": getattr(config, "max_position_embeddings", 2048),
        "embedding_length": width,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": getattr(config, "intermediate_size", 4 * width),
        "attention.head_count": heads,
        "attention.head_count_kv": getattr(config, "num_key_value_heads", heads),
        "rope.freq_base": rope.get("rope_theta"),
        "rope.dimension_count": int(head_dim * rope.get("partial_rotary_factor", 1.0)),
        "attention.layer_norm_rms_epsilon": getattr(config, "rms_norm_eps", None),
        "attention.layer_norm_epsilon": next(
            (
                getattr(config, name)
                for name in ("layer_norm_epsilon", "layer_norm_eps", "norm_epsilon", "norm_eps")
                if hasattr(config, name)
            ),
            None,
        ),
        "attn_logit_softcapping": getattr(config, "attn_logit_softcapping", None),
        "final_logit_softcapping": getattr(config, "final_logit_softcapping", None),
        "expert_count": getattr(config, "num_experts", None),
        "expert_used_count": getattr(config, "num_experts_per_tok", None),
        "expert_feed_forward_length": getattr(config, "moe_intermediate_size", None),
        "expert_shared_feed_forward_length": getattr(
            config, "shared_expert_intermediate_size", None
        ),
    }
    if architecture.startswith(("gemma", "qwen3")):
        found |= {"attention.key_length": head_dim, "attention.value_length": head_dim}
    if architecture.startswith("gemma"):
        found["attention.sliding_window"] = config.sliding_window
    if rope.get("rope_type") == "linear":
        found |= {"rope.scaling.type": "linear", "rope.scaling.factor": rope["factor"]}
    yield from ((key, value) for key, value in found.items() if value is not None)


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    tokenizer = tiny.tokenizer()
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(vocabulary)
    writer.add_token_types(
        [3 if token.startswith("<") and len(token) > 1 else 1 for token in vocabulary]
    )
    merges = json.loads(tokenizer.backend_tokenizer.model.__getstate__())["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)


def _stored(architecture: str, key: str, w: Tensor, config: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield a tensor as it is stored, by the name that gguf knows."""
    w = w.detach()
    if architecture == "llama" and key.endswith(("q_proj.weight", "k_proj.weight")):
        heads = config.num_attention_heads if "q_proj" in key else config.num_key_value_heads
        w = w.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
    elif architecture in {"gemma2", "gemma3", "nemotron"} and key.endswith("norm.weight"):
        w = w + 1
    elif architecture == "gpt2" and key.endswith(("attn.weight", "proj.weight", "fc.weight")):
        w = w.T
    elif architecture == "bloom":
        key = key.removeprefix("transformer.")
        if "query_key_value" in key:
            w = w.unflatten(0, (config.n_head, 3, -1)).transpose(0, 1).flatten(0, 2)
    if key.endswith("experts.gate_up_proj"):
        for name, half in zip(("gate_proj", "up_proj"), w.chunk(2, dim=1), strict=True):
            yield key.replace("gate_up_proj", f"{name}.weight"), half
    else:
        yield (f"{key}.weight" if key.endswith("experts.down_proj") else key), w
