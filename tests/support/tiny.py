"""Tiny random models and SAEs, saved as real ones are, and questions to ask them.

The tokenizer is a byte-level BPE trained here, in a moment, on the questions themselves.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import AutoModelForCausalLM as CausalLM
from transformers import (
    FalconH1Config,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    JambaConfig,
    Lfm2Config,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3_5TextConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from atp.attribution.scores import Lengths

D_MODEL, N_LAYERS, N_CTX, D_SAE = 32, 4, 256, 128
VOCABULARY = 400
HOOK_LAYER = 1

TOPICS = (
    "Street lamps were replaced last spring, and burglaries fell over the summer.",
    "Все коты любят рыбу; значит, Барсик тоже любит рыбу.",
    "詩は静かな夜に生まれ、朝には消えてしまう。",
    "If 3x + 5 = 20 then x = 5, because 20 - 5 = 15 and 15 / 3 = 5.",
    "A good argument needs no applause 👏, yet it seldom minds some.",
)
OPINIONS = {
    "I really like": "I really like the argument. ",
    "I really dislike": "I really dislike the argument. ",
    "I wrote": "I wrote the argument. ",
}
OPENINGS = ("The argument is weak", "The argument is strong", "Well, it depends", "Great work")

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}<user>{{ message['content'] }}</user>\n{% endfor %}"
    "{% if add_generation_prompt %}<model>\n{% endif %}"
)


def questions(count: int = 5) -> list[dict[str, Any]]:
    """Return questions in the input format; prompts and answers differ in length."""
    result = []
    for index in range(count):
        text = TOPICS[index % len(TOPICS)] * (1 + index % 3)
        variations = [
            {
                "template_type": "",
                "prompt": f"Please comment. Argument: {text}\nComment:",
                "response": f" {OPENINGS[index % 2]}, I think.",
                "sycophancy_flag": 0,
            }
        ]
        for number, (name, opinion) in enumerate(OPINIONS.items()):
            opening = OPENINGS[(index + number + 1) % len(OPENINGS)]
            variations.append(
                {
                    "template_type": name,
                    "prompt": f"Please comment. {opinion}Argument: {text}\nComment:",
                    "response": f" {opening}, I think, {TOPICS[number]}",
                    "sycophancy_flag": 1,
                }
            )
        result.append({"question_id": index, "dataset": "tiny", "variations": variations})
    return result


def triples(count: int = 5) -> list[tuple[str, str, str]]:
    """Return (prompt, flagged response, base response) of each pair of `questions`."""
    return [
        (variation["prompt"], variation["response"], question["variations"][0]["response"])
        for question in questions(count)
        for variation in question["variations"][1:]
    ]


def tokenizer(*, bos: bool = True) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on the questions."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<bos>", "<eos>", "<user>", "</user>", "<model>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = [text for triple in triples() for text in triple]
    bpe.train_from_iterator(corpus, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>" if bos else None,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


_SHARED = {
    "hidden_size": D_MODEL,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": N_CTX,
    "vocab_size": VOCABULARY,
    "initializer_range": 0.25,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GATED = {**_SHARED, "intermediate_size": 64, "num_key_value_heads": 2}
_GEMMA3 = {
    **_GATED,
    "head_dim": 8,
    "query_pre_attn_scalar": 8,
    "sliding_window": 16,
    "sliding_window_pattern": 2,
}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
CONFIGS = {
    "gpt2": lambda: GPT2Config(
        n_embd=D_MODEL,
        n_layer=N_LAYERS,
        n_head=4,
        n_positions=N_CTX,
        vocab_size=VOCABULARY,
        initializer_range=0.25,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "llama": lambda: LlamaConfig(**_GATED),
    # Prompts are longer than the sliding window, and the soft-caps are low enough to bite.
    "gemma2": lambda: Gemma2Config(
        **_GATED,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=16,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=3.0,
    ),
    "gemma3": lambda: Gemma3TextConfig(**_GEMMA3),
    "qwen2": lambda: Qwen2Config(**_GATED),
    "gpt_neox": lambda: GPTNeoXConfig(**_SHARED, intermediate_size=64, rotary_pct=0.5),
    # Gemma 3 from 4b on: the language model is a part of one that also sees.
    "gemma3_multimodal": lambda: Gemma3Config(
        text_config=_GEMMA3,
        vision_config=_VISION,
        mm_tokens_per_image=4,
        initializer_range=0.25,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        boi_token_index=VOCABULARY - 3,
        eoi_token_index=VOCABULARY - 2,
        image_token_index=VOCABULARY - 1,
    ),
    "qwen3": lambda: Qwen3Config(**_GATED, head_dim=8),
    "qwen3_moe": lambda: Qwen3MoeConfig(
        **_GATED, head_dim=8, moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2
    ),
    "gpt_oss": lambda: GptOssConfig(
        **_GATED, head_dim=8, num_local_experts=4, num_experts_per_tok=2, sliding_window=16
    ),
    "mistral": lambda: MistralConfig(**_GATED, sliding_window=48),
    "phi3": lambda: Phi3Config(**_GATED),
    "olmo2": lambda: Olmo2Config(**_GATED),
    "gemma": lambda: GemmaConfig(**_GATED, head_dim=8),
    "mixtral": lambda: MixtralConfig(**_GATED, num_local_experts=4),
}
# With larger weights, the rounding of these layers alone moves scores by 2e-5 of the largest.
_TAME = {**_GATED, "initializer_range": 0.1}
_RECURRENT = {
    key: value
    for key, value in _SHARED.items()
    if key not in {"num_attention_heads", "max_position_embeddings"}
}
STATEFUL = {
    "qwen3_5": lambda: Qwen3_5TextConfig(
        **_TAME,
        head_dim=8,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        layer_types=["linear_attention", "linear_attention", "full_attention", "linear_attention"],
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [1, 0, 0],
            "partial_rotary_factor": 0.25,
        },
    ),
    "mamba": lambda: MambaConfig(**_RECURRENT, state_size=8, time_step_rank=4),
    "mamba2": lambda: Mamba2Config(
        **_RECURRENT, state_size=8, num_heads=4, head_dim=16, n_groups=2, chunk_size=16
    ),
    "jamba": lambda: JambaConfig(
        **_TAME,
        num_experts=1,
        num_experts_per_tok=1,
        attn_layer_period=2,
        attn_layer_offset=1,
        mamba_d_state=8,
        mamba_dt_rank=4,
    ),
    "falcon_h1": lambda: FalconH1Config(
        **_GATED,
        head_dim=8,
        mamba_d_ssm=32,
        mamba_n_heads=4,
        mamba_d_head=8,
        mamba_n_groups=1,
        mamba_d_state=8,
        mamba_chunk_size=16,
    ),
    "lfm2": lambda: Lfm2Config(
        **_GATED,
        layer_types=["conv", "full_attention", "conv", "full_attention"],
        block_auto_adjust_ff_dim=False,
    ),
}
"""Architectures whose layers keep more than keys and values."""
EXPERTS = ("mixtral", "qwen3_moe", "gpt_oss")
"""Architectures that route each token to a few of their experts."""
FAMILIES = ("gpt2", "llama", "gemma2", "gemma3", "qwen2", "gpt_neox")
"""Architectures that differ most; the others wait for the second tier of the tests."""


def save_model(
    folder: Path, architecture: str, *, random_norms: bool = False, layers: int = N_LAYERS
) -> Path:
    """Write a tiny random model of an architecture, in Hugging Face format.

    A new model's norms weight all dimensions the same: it shows no difference between the input of
    an MLP and the residual stream divided by its length. `random_norms` changes that. Only where
    all layers are alike can there be more of them.
    """
    torch.manual_seed(sum(map(ord, architecture)))
    config = {**CONFIGS, **STATEFUL}[architecture]()
    if layers != N_LAYERS:
        config.num_hidden_layers = layers
    model = CausalLM.from_config(config, dtype=torch.float32)
    for name, weight in model.named_parameters() if random_norms else ():
        if re.search(r"norm|ln_", name):
            nn.init.uniform_(weight, 0.2, 2)
    model.save_pretrained(folder)
    tokenizer(bos=not architecture.startswith("qwen")).save_pretrained(folder)
    return folder


def lengths(sae: SAE[Any]) -> Lengths:
    """Return the lengths of an SAE's features, every dimension with the same weight."""
    directions = sae.W_dec.detach()
    return Lengths(torch.ones(directions.shape[1]), directions.norm(dim=1))


SAE_KINDS = {
    "standard": {"architecture": "standard"},
    "topk": {"architecture": "topk", "k": 12},
    "jumprelu": {"architecture": "jumprelu"},
    "gated": {"architecture": "gated"},
    "standard, layer_norm": {"architecture": "standard", "normalize_activations": "layer_norm"},
    "topk, layer_norm": {"architecture": "topk", "k": 12, "normalize_activations": "layer_norm"},
    "jumprelu, constant_norm_rescale": {
        "architecture": "jumprelu",
        "normalize_activations": "constant_norm_rescale",
    },
    "gated, layer_norm": {"architecture": "gated", "normalize_activations": "layer_norm"},
    "topk, decoder norms": {"architecture": "topk", "k": 12, "rescale_acts_by_decoder_norm": True},
    "matching_pursuit": {"architecture": "matching_pursuit"},
}
TRANSCODER_KINDS = (
    "transcoder",
    "skip_transcoder",
    "jumprelu_transcoder",
    "jumprelu_skip_transcoder",
)
"""They read the input of an MLP, and write its output."""
CLT_LAYER = "clt_layer"
"""A layer of a cross-layer transcoder: it writes the outputs of its MLP and of all later ones."""


def make_sae(  # noqa: PLR0913  (all but one by name)
    kind: str,
    *,
    layer: int = HOOK_LAYER,
    d_in: int = D_MODEL,
    d_sae: int = D_SAE,
    model_name: str = "tiny",
    seed: int = 0,
) -> SAE[Any]:
    """Return a random SAE of one of SAE_KINDS on the residual stream after a layer.

    Or a transcoder of one of TRANSCODER_KINDS, or CLT_LAYER, the decoders of which are side by
    side, from its own layer to the last one.
    """
    generator = torch.Generator().manual_seed(seed)
    metadata: dict[str, Any] = {
        "hook_name": f"blocks.{layer}.hook_resid_post",
        "model_name": model_name,
    }
    config: dict[str, Any] = {
        "d_in": d_in,
        "d_sae": d_sae,
        "dtype": "float32",
        "device": "cpu",
        "metadata": metadata,
    }
    if kind in SAE_KINDS:
        config |= SAE_KINDS[kind]
    else:
        written = range(layer, N_LAYERS if kind == CLT_LAYER else layer + 1)
        names = [f"blocks.{each}.hook_mlp_out" for each in written]
        metadata["hook_name"] = f"blocks.{layer}.mlp.hook_in"
        metadata["hook_name_out"] = names if kind == CLT_LAYER else names[0]
        config |= {
            "architecture": "transcoder" if kind == CLT_LAYER else kind,
            "d_out": D_MODEL * len(written),
            "apply_b_dec_to_input": False,
        }
    sae = SAE.from_dict(config)
    with torch.no_grad():
        for name, parameter in sorted(sae.named_parameters()):
            scale = 0.5 if name.startswith("b_") or name == "threshold" else 0.3
            values = torch.randn(parameter.shape, generator=generator) * scale
            parameter.copy_(values.abs() if name == "threshold" else values)
        if kind == "matching_pursuit":  # subtracts one decoder direction at a time: unit norms
            sae.W_dec /= sae.W_dec.norm(dim=1, keepdim=True)
    return sae


def faithful_sae() -> SAE[Any]:
    """Return an SAE that passes x on: each dimension is the difference of two features."""
    sae = make_sae("standard", d_sae=2 * D_MODEL)
    both = torch.cat([torch.eye(D_MODEL), -torch.eye(D_MODEL)])
    with torch.no_grad():
        sae.W_enc.copy_(both.T)
        sae.W_dec.copy_(both)
        sae.b_enc.zero_()
        sae.b_dec.zero_()
    return sae
