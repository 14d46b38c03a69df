"""A model of the shape of google/gemma-2-9b-it, with random weights and random SAEs.

Speed and memory do not depend on the values of the weights. Scores do, so these scores mean
nothing.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from sae_lens import SAE
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, Gemma2Config, PreTrainedTokenizerFast

from atp.attribution.batches import Batch
from atp.attribution.capture import capture
from atp.model.dictionaries.loading import Dictionary
from atp.model.loading import wrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

    from atp.attribution.contrasts import Contrast
    from atp.model.language_model import Model

NAME = "google/gemma-2-9b-it"
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")


@dataclass(frozen=True)
class Size:
    """The shape of the model, its SAEs and its input."""

    config: dict[str, Any]
    """Of Gemma2Config."""
    layers: tuple[int, ...]
    """The layers after which the SAEs read."""
    narrow: int
    """Features of each SAE, in all sections but one."""
    wide: int
    """Features of each SAE in the section `wide`."""
    active: int
    """About how many features are active at a position."""
    prompt_tokens: tuple[int, int]
    """The shortest and the longest prompt."""
    long_prompt_tokens: int
    """Of the section `memory`."""
    response_words: int
    pairs: int
    notebook_pairs: int
    """Pairs on which the notebook's procedure is timed."""
    long_pairs: int
    dtype_pairs: int
    matrix: int
    """Rows and columns of the matrices whose product measures the device's rate."""


FULL = Size(
    config={
        "vocab_size": 256_000,
        "hidden_size": 3584,
        "num_hidden_layers": 42,
        "intermediate_size": 14_336,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "max_position_embeddings": 8192,
    },
    layers=(9, 20, 31),
    narrow=2**14,
    wide=2**17,
    active=100,
    prompt_tokens=(120, 450),
    long_prompt_tokens=1000,
    response_words=250,
    pairs=145,
    notebook_pairs=24,
    long_pairs=48,
    dtype_pairs=16,
    matrix=8192,
)
TINY = Size(
    config={
        "vocab_size": 1000,
        "hidden_size": 64,
        "num_hidden_layers": 6,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 32,
        "max_position_embeddings": 256,
    },
    layers=(1, 2, 4),
    narrow=256,
    wide=1024,
    active=20,
    prompt_tokens=(24, 60),
    long_prompt_tokens=120,
    response_words=30,
    pairs=12,
    notebook_pairs=4,
    long_pairs=6,
    dtype_pairs=4,
    matrix=256,
)
SIZES = {"full": FULL, "tiny": TINY}


def causal_lm(size: Size, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """Return a Hugging Face model with random weights, made on the device."""
    config = Gemma2Config(
        **size.config,
        attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0,
        pad_token_id=SPECIAL.index("<pad>"),
        eos_token_id=SPECIAL.index("<eos>"),
        bos_token_id=SPECIAL.index("<bos>"),
    )
    torch.manual_seed(0)
    with torch.device(device):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation="eager"
        )
    return model.eval()


def plain_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Return a second model with the same weights in the same memory.

    It has Parameter objects of its own: the notebook's procedure asks for the gradients of all of
    them, and those of the bridge must stay frozen. Make it before the bridge, which builds its hook
    points into the modules.
    """
    memo: dict[int, torch.Tensor] = {
        id(parameter): nn.Parameter(parameter.data, requires_grad=False)
        for parameter in model.parameters()
    }
    memo |= {id(buffer): buffer.detach() for buffer in model.buffers()}
    return deepcopy(model, memo)


def tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of the words w0, w1, ...: a text of n words is n tokens."""
    words = (f"w{number}" for number in range(vocabulary - len(SPECIAL)))
    ids = {word: index for index, word in enumerate((*SPECIAL, *words))}
    levels = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))  # noqa: S106  (no password)
    levels.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {f"{name.strip('<>')}_token": name for name in SPECIAL}
    # transformer_lens reloads a tokenizer by its name unless it adds <bos> by itself.
    return PreTrainedTokenizerFast(
        tokenizer_object=levels, add_bos_token=True, name_or_path="random", **names
    )


def bridged(hf_model: PreTrainedModel) -> Model:
    """Return atp's model around a Hugging Face model, as `load_model` makes it."""
    own = tokenizer(hf_model.config.vocab_size)
    bridge = TransformerBridge.boot_transformers(
        NAME,
        hf_model=hf_model,
        tokenizer=deepcopy(own),  # the bridge changes it
        device=str(hf_model.device),
        dtype=hf_model.dtype,
    )
    return wrap(NAME, bridge, own, {"weights": "random"})


def random_saes(
    model: Model, size: Size, width: int, sample: Sequence[Contrast]
) -> list[Dictionary]:
    """Return an SAE of `width` features for each layer, in the host's memory.

    Decoder directions are random unit vectors, and the encoder is their transpose. The threshold is
    such that about `size.active` features are active on a sample of the input.
    """
    hooks = [f"blocks.{layer}.hook_resid_post" for layer in size.layers]
    captured = capture(model, Batch.of(sample, model.device), hooks)
    return [
        _dictionary(hook, width, size.active, captured.residuals[hook].float()) for hook in hooks
    ]


@torch.no_grad()
def _dictionary(hook: str, width: int, active: int, residuals: torch.Tensor) -> Dictionary:
    config = {
        "architecture": "jumprelu",
        "d_in": residuals.shape[1],
        "d_sae": width,
        "dtype": "float32",
        "device": str(residuals.device),
        "apply_b_dec_to_input": False,  # as in Gemma Scope
        "metadata": {"hook_name": hook, "model_name": NAME},
    }
    sae: SAE[Any] = SAE.from_dict(config).eval().requires_grad_(requires_grad=False)
    sae.W_dec.normal_(generator=torch.Generator(residuals.device).manual_seed(0))
    sae.W_dec /= sae.W_dec.norm(dim=1, keepdim=True)
    sae.W_enc.copy_(sae.W_dec.T)
    sae.threshold.fill_((residuals @ sae.W_enc).topk(active, dim=1).values[:, -1].median())
    label = f"{hook.split('.')[1]}-{width}"
    move_to_host(sae)
    return Dictionary(f"random:{label}", f"layer{label}", hook, sae, {"weights": "random"})


def move_to_host(sae: SAE[Any]) -> None:
    """Move an SAE back into the host's memory, from which a run places it."""
    for tensor in (*sae.parameters(), *sae.buffers()):
        tensor.data = tensor.data.cpu()
