"""What SAELens' list tells of each dictionary before anything of it is downloaded.

entry_names.py reads names. L0s are compared here, and sizes follow from widths. The list says too
little of some dictionaries: those values are None.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from atp.config.sae_choice import L0_SIZES
from atp.model.dictionaries.entry_names import (
    architecture_of,
    hook_name_of,
    input_width,
    l0_of,
    layer_in,
    site_of,
    width_of,
)
from atp.model.dictionaries.refusals import refusal
from atp.model.dictionaries.registry import (
    NEURONPEDIA,
    counted_releases,
    find_release,
    releases_of,
)
from atp.model.names import official_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from atp.config.sae_choice import L0Size, Site
    from atp.model.dictionaries.registry import Entry, Release

FLOAT32_BYTES = 4
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

    @property
    def outputs(self) -> int:
        """How many hook points it writes to, beside that which it reads; 0 for an SAE."""
        if self.layers is not None and self.layer is not None:
            return self.layers - self.layer
        return int("transcoder" in (self.architecture or ""))

    def weights(self, d_in: int | None) -> int | None:
        """Return how many numbers it has, for a width of its input."""
        if d_in is None or self.d_sae is None:
            return None
        kind = self.architecture or "standard"
        vectors = {"jumprelu": 2, "gated": 3}.get(kind.partition("_")[0], 1)  # one for each feature
        skip = d_in**2 if "skip" in kind else 0
        return (1 + max(1, self.outputs)) * d_in * self.d_sae + d_in + vectors * self.d_sae + skip

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
        site = site_of(release.loader, entry.path, hook_name_of(release, sae_id, entry.path))
        of_model = counts[official_name(release.model)]
        of_model[site, refusal(release.loader)] += total - malformed
        if malformed:
            of_model[site, refusal(release.loader, malformed=True)] += malformed
    return dict(counts)


def _describe(release: Release, sae_id: str, entry: Entry) -> ListedDictionary:
    loader = release.loader
    hook_name = hook_name_of(release, sae_id, entry.path)
    site = site_of(loader, entry.path, hook_name)
    layer = layer_in(sae_id, entry.path)
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
        architecture=architecture_of(release, entry.path),
        d_in=input_width(release, hook_name),
        d_sae=width_of(release, sae_id, entry),
        l0=l0_of(entry),
        l0_size=_l0_size_in_name(f"{release.name}:{sae_id}"),
        page=None if entry.page is None else f"{NEURONPEDIA}/{entry.page}",
        layers=len(release.entries) if site == "clt" else None,
        refusal=refusal(loader, malformed=entry.malformed),
    )


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
