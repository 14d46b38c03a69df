"""Where the plain model has what a hook point of TransformerLens means, by architecture.

Written from the forward methods of Transformers: it shares nothing with the bridge or with atp.
"""

from __future__ import annotations

_LLAMA = {
    "hook_resid_pre": "input",
    "hook_attn_out": "self_attn.output",
    "hook_resid_mid": "post_attention_layernorm.input",
    "ln2.hook_normalized": "post_attention_layernorm.input",
    "mlp.hook_in": "mlp.input",
    "hook_mlp_out": "mlp.output",
    "hook_resid_post": "output",
    "attn.hook_z": "self_attn.o_proj.input",
}
_GEMMA = {  # norms before and after each part
    **_LLAMA,
    "hook_attn_out": "post_attention_layernorm.output",
    "hook_resid_mid": "pre_feedforward_layernorm.input",
    "ln2.hook_normalized": "pre_feedforward_layernorm.input",
    "mlp.hook_in": "pre_feedforward_layernorm.output",
    "hook_mlp_out": "post_feedforward_layernorm.output",
}
_OLMO2 = {  # norms after each part only
    **_LLAMA,
    "hook_attn_out": "post_attention_layernorm.output",
    "hook_resid_mid": "mlp.input",
    "hook_mlp_out": "post_feedforward_layernorm.output",
}
del _OLMO2["ln2.hook_normalized"]
_GPT2 = {
    **_LLAMA,
    "hook_attn_out": "attn.output",
    "hook_resid_mid": "ln_2.input",
    "ln2.hook_normalized": "ln_2.input",
    "attn.hook_z": "attn.c_proj.input",
}
_NEOX = {  # attention and MLP read the same stream: there is nothing between them
    **_LLAMA,
    "hook_attn_out": "attention.output",
    "attn.hook_z": "attention.dense.input",
}
del _NEOX["hook_resid_mid"]

_BY_ARCHITECTURE = {
    "gemma2": _GEMMA,
    "gemma3": _GEMMA,
    "gemma3_multimodal": _GEMMA,
    "olmo2": _OLMO2,
    "gpt2": _GPT2,
    "gpt_neox": _NEOX,
}


CENTRING = {"gpt2", "gpt_neox"}
"""Their norms subtract the mean of x before they divide by its length."""


def points(architecture: str) -> dict[str, str]:
    """Return the names of Places in a layer, by the names of its hook points.

    ln2.hook_normalized is the place divided by its root mean square, without the norm's weights,
    and in CENTRING less its mean.
    """
    return _BY_ARCHITECTURE.get(architecture, _LLAMA)


def place(architecture: str, hook_name: str) -> str:
    """Return the name of a Place, as in 1.mlp.output of blocks.1.hook_mlp_out."""
    _, layer, point = hook_name.split(".", 2)
    return f"{layer}.{points(architecture)[point]}"
