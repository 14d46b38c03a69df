"""What names in SAELens' list say of a dictionary, read as SAELens' loaders read them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from atp.config.sae_choice import features_of
from atp.model.dictionaries.files import CLT_LAYERS
from atp.model.hook_names import layer_of
from atp.model.names import comparable

if TYPE_CHECKING:
    from atp.config.sae_choice import Site
    from atp.model.dictionaries.registry import Entry, Release

D_MODEL = {
    "gpt2": 768,
    "pythia-70m-deduped": 512,
    "gemma-2b": 2048,
    "gemma-2b-it": 2048,
    "mistral-7b-v0.1": 4096,
    "meta-llama-3-8b-instruct": 4096,
    "llama-3.1-8b": 4096,
    "llama-3.1-8b-instruct": 4096,
    "deepseek-r1-distill-llama-8b": 4096,
    "llama-3.3-70b-instruct": 8192,
    "gemma-2-2b": 2304,
    "gemma-2-9b": 3584,
    "gemma-2-9b-it": 3584,
    "gemma-2-27b": 4608,
    **{f"gemma-3-270m{suffix}": 640 for suffix in ("", "-it")},
    **{f"gemma-3-1b{suffix}": 1152 for suffix in ("-pt", "-it")},
    **{f"gemma-3-4b{suffix}": 2560 for suffix in ("-pt", "-it")},
    **{f"gemma-3-12b{suffix}": 3840 for suffix in ("-pt", "-it")},
    **{f"gemma-3-27b{suffix}": 5376 for suffix in ("-pt", "-it")},
    "qwen2.5-7b-instruct": 3584,
    "qwen3-0.6b": 1024,
    "qwen3-1.7b": 2048,
    "qwen3-4b": 2560,
    "qwen3-8b": 4096,
    "qwen3-14b": 5120,
    "qwen3-1.7b-base": 2048,
    "qwen3-8b-base": 4096,
    "qwen3-30b-a3b-base": 2048,
    "qwen3.5-2b-base": 2048,
    "qwen3.5-9b-base": 4096,
    "qwen3.5-27b": 5120,
    "qwen3.5-35b-a3b-base": 2048,
    "gpt-oss-20b": 2880,
}
"""The width of the residual stream, of the models in the list."""
ALL_HEADS = {
    "gpt2": 768,
    "gemma-2-2b": 2048,
    "gemma-2-9b": 4096,
    **{f"gemma-3-270m{suffix}": 1024 for suffix in ("", "-it")},
    **{f"gemma-3-1b{suffix}": 1024 for suffix in ("-pt", "-it")},
    **{f"gemma-3-4b{suffix}": 2048 for suffix in ("-pt", "-it")},
    **{f"gemma-3-12b{suffix}": 4096 for suffix in ("-pt", "-it")},
    **{f"gemma-3-27b{suffix}": 4096 for suffix in ("-pt", "-it")},
}
"""The width of all heads of a layer together, of models with SAEs at hook_z."""

SITES_OF_HOOKS: dict[str, Site] = {
    "hook_embed": "resid",
    "hook_resid_pre": "resid",
    "hook_resid_mid": "resid",
    "hook_resid_post": "resid",
    "hook_mlp_out": "mlp",
    "hook_attn_out": "attn",
    "hook_z": "attn",
}
HOOKS_IN_PATHS = {  # a part of a name of Gemma Scope, and the hook point that SAELens' loader takes
    "gemma_2": {"-res": "hook_resid_post", "-mlp": "hook_mlp_out", "-att": "attn.hook_z"},
    "gemma_3": {
        "resid_post": "hook_resid_post",
        "mlp_out": "hook_mlp_out",
        "attn_out": "attn.hook_z",
        "transcoder": "hook_mlp_in",
    },
}
HOOKS = {  # of loaders whose dictionaries all read the same hook point of a layer
    "gemma_2_transcoder": "ln2.hook_normalized",
    "mwhanna_transcoder": "mlp.hook_in",
    CLT_LAYERS: None,  # a file says it
    **dict.fromkeys(("deepseek_r1", "goodfire", "qwen_scope", "temporal"), "hook_resid_post"),
    **dict.fromkeys(("dictionary_learning_1", "llama_scope_r1_distill"), "hook_resid_post"),
    "connor_rob_hook_z": "attn.hook_z",
}
LLAMA_SCOPE = {"R": "hook_resid_post", "M": "hook_mlp_out", "A": "hook_attn_out"}
ARCHITECTURES = {
    "connor_rob_hook_z": "standard",
    "deepseek_r1": "standard",
    "gemma_2": "jumprelu",
    "gemma_2_transcoder": "jumprelu_transcoder",
    "goodfire": "standard",
    "llama_scope": "jumprelu",
    "llama_scope_r1_distill": "jumprelu",
    CLT_LAYERS: "transcoder",
    "mwhanna_transcoder": "transcoder",
    "qwen_scope": "topk",
    "temporal": "temporal",
}
DICTIONARY_LEARNING = {  # by a part of the release's name
    "topk": "topk",
    "gated": "gated",
    "vanilla": "standard",
    "standard": "standard",
    "panneal": "standard",
    "saebench_": "jumprelu",  # batch TopK, which SAELens loads so
}
WIDTHS_IN_NAMES = (  # the first that is found counts
    r"\bwidth_(\d+[km])\b",
    r"width_(\d+[km])_",
    r"-w-?(\d+k)-",
    r"v5-(\d+k)$",
    r"_ds(\d+)_",
    r"hook_\w+_(\d{3,6})(?:_anthropic)?(?::v\d+)?$",
    r"-(\d+[km])(?:__|$)",
)
FIXED_WIDTHS = {"deepseek_r1": 65536, "goodfire": 65536}  # as SAELens' loaders say


def hook_name_of(release: Release, sae_id: str, path: str) -> str | None:
    """Return where a dictionary reads; None where only its files say."""
    if "embedding" in path:
        return "hook_embed"
    loader, layer = release.loader, layer_in(sae_id, path)
    point: str | None
    if loader in HOOKS_IN_PATHS:
        text = release.repository if loader == "gemma_2" else path
        point = next((hook for part, hook in HOOKS_IN_PATHS[loader].items() if part in text), None)
    elif loader == "llama_scope":
        match = re.search(r"-L\d+([RMA])-", path)
        point = LLAMA_SCOPE[match[1]] if match else None
    elif loader in HOOKS:
        point = HOOKS[loader]
    else:
        match = re.match(
            r"blocks\.\d+\.(hook_(?:resid_(?:pre|mid|post)|mlp_out|attn_out|z))", sae_id
        )
        point = match[1] if match else None
    return None if point is None or layer is None else f"blocks.{layer}.{point}"


def site_of(loader: str, path: str, hook_name: str | None) -> Site:
    """Return what a dictionary reads, as --sae-site names it."""
    if loader == CLT_LAYERS:
        return "clt"
    if "transcoder" in loader or path.startswith("transcoder"):
        return "transcoder"
    return SITES_OF_HOOKS.get((hook_name or "").rpartition(".")[2], "resid")


def layer_in(sae_id: str, path: str) -> int | None:
    """Return the layer that a dictionary reads; None for the embedding."""
    if (layer := layer_of(sae_id)) is not None:
        return layer
    match = re.search(r"(?:^|_|/)layer_?(\d+)|^l(\d+)[ram]_", sae_id)
    return int(match[1] or match[2]) if match and "embedding" not in path else None


def architecture_of(release: Release, path: str) -> str | None:
    """Return a dictionary's kind, as SAELens calls it; None where only its files say."""
    if release.loader == "gemma_3":
        if "transcoder" not in path:
            return "jumprelu"
        return "jumprelu_skip_transcoder" if "affine" in path else "jumprelu_transcoder"
    if release.loader == "dictionary_learning_1":
        kinds = (kind for part, kind in DICTIONARY_LEARNING.items() if part in release.name)
        return next(kinds, None)
    return ARCHITECTURES.get(release.loader)


def input_width(release: Release, hook_name: str | None) -> int | None:
    """Return how many numbers a dictionary reads; None of a model that is not known here."""
    widths = ALL_HEADS if (hook_name or "").endswith("hook_z") else D_MODEL
    return widths.get(comparable(release.model))


def width_of(release: Release, sae_id: str, entry: Entry) -> int | None:
    """Return the number of features; None where only the files say."""
    if release.loader in FIXED_WIDTHS:
        return FIXED_WIDTHS[release.loader]
    if match := re.search(r"2pow(\d+)", release.name):
        return 1 << int(match[1])
    if match := re.search(r"_(\d+)x$", sae_id):  # times the width of the model
        d_model = D_MODEL.get(comparable(release.model))
        return None if d_model is None else int(match[1]) * d_model
    names = (sae_id, entry.path, release.name, release.repository, entry.page or "")
    for pattern in WIDTHS_IN_NAMES:
        for name in names:
            if match := re.search(pattern, name):
                return features_of(match[1])
    return None


def l0_of(entry: Entry) -> float | None:
    """Return the average number of active features; None where it is not stated."""
    match = re.search(r"average_l0_(\d+)$", entry.path)
    return entry.l0 if match is None else float(match[1])
