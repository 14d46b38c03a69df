"""What SAELens' list tells of each dictionary before anything of it is downloaded.

Site, layer, width, L0 and architecture follow from names, as SAELens' loaders read them; sizes from
these and the width of the model. The list says too little of some: those values are None.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from atp.config.sae_choice import L0_SIZES, features_of
from atp.model.dictionaries.files import CLT_LAYERS
from atp.model.dictionaries.refusals import refusal
from atp.model.dictionaries.registry import (
    NEURONPEDIA,
    counted_releases,
    find_release,
    releases_of,
)
from atp.model.hook_names import layer_of
from atp.model.names import comparable, official_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from atp.config.sae_choice import L0Size, Site
    from atp.model.dictionaries.registry import Entry, Release

FLOAT32_BYTES = 4
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
VARIANT = re.compile(r"_affine$|_seed_\d+$|_step_\d+$")
"""Ends the names of dictionaries beside others of the same site, layer, width and L0."""


@dataclass(frozen=True)
class ListedDictionary:
    """A dictionary in SAELens' list, by what its names say; None where they do not."""

    release: str
    sae_id: str
    model: str
    """The hub name of its model."""
    repository: str
    path: str
    loader: str
    site: Site
    layer: int | None
    """None for the embedding."""
    hook_name: str | None
    """Where it reads, as SAELens names the hook point."""
    architecture: str | None
    d_in: int | None
    d_sae: int | None
    l0: float | None
    l0_size: L0Size | None
    page: str | None
    """Its address at Neuronpedia, below which each feature has a page."""
    layers: int | None
    """The layers of a CLT; it writes to its own and all later ones."""
    refusal: str | None
    """Why atp does not score it; None if it does."""

    @property
    def spec(self) -> str:
        """Its name for --sae."""
        return f"{self.release}:{self.sae_id}"

    @property
    def is_variant(self) -> bool:
        """Whether another one has the same site, layer, width and L0, and a plainer name."""
        return VARIANT.search(self.sae_id) is not None

    def weights(self, d_in: int | None) -> int | None:
        """Return how many numbers it has, for a width of its input."""
        if d_in is None or self.d_sae is None:
            return None
        kind = self.architecture or "standard"
        written = 1 if self.layers is None or self.layer is None else self.layers - self.layer
        vectors = {"jumprelu": 2, "gated": 3}.get(kind.partition("_")[0], 1)  # one for each feature
        skip = d_in**2 if "skip" in kind else 0
        return (1 + written) * d_in * self.d_sae + d_in + vectors * self.d_sae + skip

    @property
    def bytes(self) -> int | None:
        """Its size in memory, in float32."""
        count = self.weights(self.d_in)
        return None if count is None else FLOAT32_BYTES * count


def dictionary_named(release: str, sae_id: str) -> ListedDictionary | None:
    """Return a dictionary by its name; None if it is not in the list."""
    found = find_release(release)
    entry = None if found is None else found.entries.get(sae_id)
    return None if found is None or entry is None else _describe(found, sae_id, entry)


@cache
def dictionaries_for(models: frozenset[str]) -> tuple[ListedDictionary, ...]:
    """Return the dictionaries of a model, by names that `comparable` gives, in the list's order."""
    return tuple(
        _with_l0_sizes(
            [
                _describe(release, sae_id, entry)
                for release in releases_of(models)
                for sae_id, entry in release.entries.items()
            ]
        )
    )


def counts_by_model() -> dict[str, Counter[tuple[Site, str | None]]]:
    """Return how many dictionaries each model has, by site and refusal; models by hub name.

    The dictionaries of a release share loader and site, so that one of each is looked at.
    """
    counts: dict[str, Counter[tuple[Site, str | None]]] = defaultdict(Counter)
    for release, total, malformed in counted_releases():
        ((sae_id, entry),) = release.entries.items()
        site = _site(release.loader, entry.path, _hook_name(release, sae_id, entry.path))
        of_model = counts[official_name(release.model)]
        of_model[site, refusal(release.loader)] += total - malformed
        if malformed:
            of_model[site, refusal(release.loader, malformed=True)] += malformed
    return dict(counts)


def _describe(release: Release, sae_id: str, entry: Entry) -> ListedDictionary:
    loader = release.loader
    hook_name = _hook_name(release, sae_id, entry.path)
    site = _site(loader, entry.path, hook_name)
    layer = _layer(sae_id, entry.path)
    d_in = (ALL_HEADS if (hook_name or "").endswith("hook_z") else D_MODEL).get(
        comparable(release.model)
    )
    return ListedDictionary(
        release=release.name,
        sae_id=sae_id,
        model=official_name(release.model),
        repository=release.repository,
        path=entry.path,
        loader=loader,
        site=site,
        layer=layer,
        hook_name=hook_name,
        architecture=_architecture(release, entry.path),
        d_in=d_in,
        d_sae=_width(release, sae_id, entry),
        l0=_l0(entry),
        l0_size=_l0_size_in_name(f"{release.name}:{sae_id}"),
        page=None if entry.page is None else f"{NEURONPEDIA}/{entry.page}",
        layers=len(release.entries) if site == "clt" else None,
        refusal=refusal(loader, malformed=entry.malformed),
    )


def _hook_name(release: Release, sae_id: str, path: str) -> str | None:
    if "embedding" in path:
        return "hook_embed"
    loader, layer = release.loader, _layer(sae_id, path)
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


def _site(loader: str, path: str, hook_name: str | None) -> Site:
    if loader == CLT_LAYERS:
        return "clt"
    if "transcoder" in loader or path.startswith("transcoder"):
        return "transcoder"
    return SITES_OF_HOOKS.get((hook_name or "").rpartition(".")[2], "resid")


def _layer(sae_id: str, path: str) -> int | None:
    if (layer := layer_of(sae_id)) is not None:
        return layer
    match = re.search(r"(?:^|_|/)layer_?(\d+)|^l(\d+)[ram]_", sae_id)
    return int(match[1] or match[2]) if match and "embedding" not in path else None


def _architecture(release: Release, path: str) -> str | None:
    if release.loader == "gemma_3":
        if "transcoder" not in path:
            return "jumprelu"
        return "jumprelu_skip_transcoder" if "affine" in path else "jumprelu_transcoder"
    if release.loader == "dictionary_learning_1":
        kinds = (kind for part, kind in DICTIONARY_LEARNING.items() if part in release.name)
        return next(kinds, None)
    return ARCHITECTURES.get(release.loader)


def _width(release: Release, sae_id: str, entry: Entry) -> int | None:
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


def _l0(entry: Entry) -> float | None:
    match = re.search(r"average_l0_(\d+)$", entry.path)
    return entry.l0 if match is None else float(match[1])


def _l0_size_in_name(spec: str) -> L0Size | None:
    if "-lowl0:" in spec:
        return "small"
    return next((size for size in L0_SIZES if f"_l0_{size}" in spec), None)


def _with_l0_sizes(listed: list[ListedDictionary]) -> Iterable[ListedDictionary]:
    """Call L0s small, medium and big, where names give numbers instead.

    They are compared at the same release, layer and width; or, where a release has a single L0,
    with the release of the same name and another L0, as Qwen-Scope has.
    """
    of_release: dict[object, set[float]] = defaultdict(set)
    of_family: dict[object, set[float]] = defaultdict(set)
    keys = [
        (
            (each.release, each.hook_name or each.layer, each.d_sae),
            (re.sub(r"-w\d+k-l\d+$", "", each.release), each.layer),
        )
        for each in listed
    ]
    for each, (in_release, in_family) in zip(listed, keys, strict=True):
        if each.l0 is not None and each.l0_size is None:
            of_release[in_release].add(each.l0)
            of_family[in_family].add(each.l0)
    for each, (in_release, in_family) in zip(listed, keys, strict=True):
        l0s = of_release[in_release]
        if len(l0s) == 1 and in_family[0] != each.release:
            l0s = of_family[in_family]
        size = None if each.l0_size else _size_among(each.l0, l0s)
        yield replace(each, l0_size=size) if size else each


def _size_among(l0: float | None, l0s: Collection[float]) -> L0Size | None:
    if l0 is None or len(l0s) < 2:  # noqa: PLR2004  (a pair at least)
        return None
    ordered = sorted(l0s)
    if l0 == ordered[0]:
        return "small"
    if l0 == ordered[-1]:
        return "big"
    return "medium" if l0 == ordered[len(ordered) // 2] else None
