"""GGUF files: a model's configuration and tokenizer from a file, or why it cannot be read.

A file must give the numbers of the Hugging Face model that it was made of. Transformers reads the
weights; it would leave out how positions are scaled, and skip tensors that it has no place for.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import gguf
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GgufConfig, PreTrainedTokenizerFast
from transformers.integrations.ggml import GGUF_CONFIG_DEFAULTS_MAPPING, GGUF_CONFIG_MAPPING
from transformers.integrations.gguf import GgufHeader, load_gguf_state_dict, read_gguf_metadata
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    TensorProcessor,
    get_gguf_hf_weights_map,
)

from atp.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READABLE = (
    *("bloom", "falcon", "gemma2", "gemma3", "gpt2", "llama", "nemotron", "phi3", "qwen2"),
    *("qwen2moe", "qwen3", "qwen3moe", "stablelm", "starcoder2"),
)
"""The architectures whose files give what their Hugging Face folders give (Mistral's is llama)."""

MODEL_TYPES = {"gemma3": "gemma3_text", "qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe"}
"""Where Transformers has another name for an architecture."""

SIZES = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    "final_logit_softcapping": "final_logit_softcapping",
}
"""Keys of a file that Transformers leaves out, and its own names for them."""

OTHER_SIZES = {
    "gpt2": {"context_length": "n_positions"},
    "nemotron": {"attention.layer_norm_epsilon": "norm_eps"},
    "qwen3": {"attention.key_length": "head_dim"},
}
"""The same, of single architectures."""

ROPE_FACTORS = "rope_freqs.weight"
LLAMA_3 = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""How every Llama 3 scales its positions, but for one factor."""

LARGEST_GEMMA = {"gemma2": 46, "gemma3": 62}
"""Layers of the 27b models, which scale attention by another width than that of a head."""

DENSE = GgufConfig(dequantize=True)
"""A packed weight has no gradient, and no rows of an unembedding."""

OTHER_FORMAT = "Give atp the Hugging Face folder of the model, or its name on the hub."


def gguf_config(path: Path) -> Any:  # noqa: ANN401  (transformers' own)
    """Return the configuration of the model in a GGUF file, or raise UnavailableError."""
    metadata, tensors = _header(path)
    architecture = metadata["general.architecture"]
    own = {key.removeprefix(f"{architecture}."): value for key, value in metadata.items()}
    model_type = MODEL_TYPES.get(architecture, architecture)
    tokenizer = GGUF_CONFIG_MAPPING["tokenizer"]
    sizes = GGUF_CONFIG_MAPPING[model_type.removesuffix("_text")]
    names = {**sizes, **SIZES, **OTHER_SIZES.get(architecture, {})}
    names |= {f"tokenizer.{key}": name for key, name in tokenizer.items()}
    config = AutoConfig.for_model(
        model_type,
        vocab_size=metadata["tokenizer.ggml.tokens"],  # the reader leaves their number
        tie_word_embeddings="output.weight" not in tensors,
        **GGUF_CONFIG_DEFAULTS_MAPPING.get(model_type, {}),
        **{name: own[key] for key, name in names.items() if name and key in own},
    )
    if architecture == "stablelm":
        config.use_qkv_bias = "blk.0.attn_q.bias" in tensors
        config.use_parallel_residual = "blk.0.ffn_norm.weight" not in tensors
    if architecture in LARGEST_GEMMA:
        largest = own["block_count"] == LARGEST_GEMMA[architecture]
        width = config.hidden_size // config.num_attention_heads if largest else config.head_dim
        config.query_pre_attn_scalar = width
    if rope := getattr(config, "rope_parameters", None):
        rope = rope.get("full_attention", rope)  # Gemma 3 has others for its sliding layers
        rope |= _rope(path, own, tensors)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    config.architectures = [type(model).__name__]  # TransformerLens chooses its adapter by it
    _check_tensors(path, architecture, model, tensors)
    return config


def gguf_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer in a GGUF file; AutoTokenizer mixes it with one in the same folder."""
    _header(path)
    return PreTrainedTokenizerFast(gguf_file=path.name, name_or_path=str(path.parent))


@contextmanager
def quick_names() -> Iterator[None]:
    """Make the table of tensor names once: Transformers makes it for every module of a model.

    For 46 layers, that takes half a minute.
    """
    make = gguf.get_tensor_name_map
    gguf.get_tensor_name_map = cache(make)
    try:
        yield
    finally:
        gguf.get_tensor_name_map = make


def _header(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a file's keys and the names of its tensors."""
    metadata, tensors = read_gguf_metadata(str(path))
    architecture = metadata["general.architecture"]
    if architecture not in READABLE:
        msg = f"{path.name} is a GGUF file of the architecture {architecture}."
        hint = (
            f"Of GGUF files, atp reads {', '.join(READABLE)}. Else give it a folder or a hub name."
        )
        raise UnavailableError(msg, hint)
    if metadata.get("split.count", 1) > 1:
        msg = f"{path.name} is one of {metadata['split.count']} parts of a GGUF file."
        raise UnavailableError(msg, "Merge them: llama-gguf-split --merge FIRST_PART WHOLE")
    return metadata, tensors


def _rope(path: Path, own: dict[str, Any], tensors: tuple[str, ...]) -> dict[str, Any]:
    """Return the rotary parameters that a file states."""
    rope: dict[str, Any] = {}
    if "rope.freq_base" in own:
        rope["rope_theta"] = own["rope.freq_base"]
    if "rope.dimension_count" in own:
        head = own["embedding_length"] // own["attention.head_count"]
        head = own.get("attention.key_length", head)
        rope["partial_rotary_factor"] = own["rope.dimension_count"] / head
    scaling = own.get("rope.scaling.type", "none")
    if scaling == "linear":
        rope |= {"rope_type": "linear", "factor": own["rope.scaling.factor"]}
    elif scaling != "none":
        msg = f"{path.name} scales its positions by {scaling}, which atp does not read."
        raise UnavailableError(msg, OTHER_FORMAT)
    if ROPE_FACTORS in tensors:
        factors = load_gguf_state_dict(GgufHeader.from_file(str(path)))[ROPE_FACTORS][...]
        rope |= {"rope_type": "llama3", "factor": float(factors.max()), **LLAMA_3}
    return rope


def _check_tensors(
    path: Path,
    architecture: str,
    model: Any,  # noqa: ANN401  (as above)
    tensors: tuple[str, ...],
) -> None:
    """Raise UnavailableError unless each tensor of the file has its place in the model."""
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config={})
    with quick_names():
        places = get_gguf_hf_weights_map(model, processor)
    tied = {"output"} if model.config.tie_word_embeddings else set()
    expected, found = (
        {name.removesuffix(".weight") for name in names if name != ROPE_FACTORS} - tied
        for names in (places, tensors)
    )
    if odd := sorted(expected ^ found):
        names = ", ".join(odd[:3])
        msg = f"{path.name} and {type(model).__name__} differ in {len(odd)} tensors: {names}."
        raise UnavailableError(msg, OTHER_FORMAT)
