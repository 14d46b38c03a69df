"""`atp saes`: what SAELens' list has for a model, or how much for each model; asks no hub."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from itertools import groupby
from typing import TYPE_CHECKING, Any

from atp.config.sae_choice import SITES
from atp.errors import SettingsError, did_you_mean
from atp.model.dictionaries.cached import cached_files
from atp.model.dictionaries.catalogue import counts_by_model, dictionaries_for
from atp.model.dictionaries.files import Published
from atp.model.dictionaries.picking import choose, preference
from atp.model.hub_cache import cached_folder
from atp.model.names import check_model_name, comparable_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.config.sae_choice import Site
    from atp.model.dictionaries.catalogue import ListedDictionary


def saes(model: str | None) -> dict[str, Any]:
    """Return the report of docs/dictionaries.md on a model, or on all of them."""
    return {
        "sae_lens": version("sae-lens"),
        **(_of_all_models() if model is None else _of_model(model)),
    }


def _of_all_models() -> dict[str, Any]:
    return {
        "models": [
            {
                "model": model,
                "count": counts.total(),
                "scored": sum(count for (_, refusal), count in counts.items() if refusal is None),
                "sites": {
                    site: sum(count for (of, _), count in counts.items() if of == site)
                    for site in SITES
                },
            }
            for model, counts in sorted(counts_by_model().items(), key=lambda each: each[0].lower())
        ]
    }


def _of_model(model: str) -> dict[str, Any]:
    check_model_name(model)
    found = dictionaries_for(frozenset(comparable_names(model)))
    if not found:
        msg = f"SAELens lists no dictionary for the model {model!r}."
        near = did_you_mean(model, counts_by_model())
        raise SettingsError(msg, f"{near} atp saes lists the models that have some.".strip())
    here = {each.spec for each in found if _is_here(each)}
    counts = Counter(each.site for each in found)
    return {
        "model": model,
        "count": len(found),
        "scored": sum(each.refusal is None for each in found),
        "here": len(here),
        "sites": {
            site: {"count": counts[site], "default": _default(model, site)}
            for site in SITES
            if site in counts
        },
        "dictionaries": [
            {
                "spec": each.spec,
                "release": each.release,
                "sae_id": each.sae_id,
                "site": each.site,
                "layer": each.layer,
                "hook_name": each.hook_name,
                "architecture": each.architecture,
                "d_in": each.d_in,
                "d_sae": each.d_sae,
                "l0": each.l0,
                "l0_size": each.l0_size,
                "bytes": each.bytes,
                "repository": each.repository,
                "path": each.path,
                "here": each.spec in here,
                "neuronpedia": each.page,
                "scored": each.refusal is None,
                "reason": each.refusal,
            }
            for each in _ordered(found)
        ],
    }


def _ordered(found: Sequence[ListedDictionary]) -> list[ListedDictionary]:
    """Return dictionaries by site, release, the preferred first, and layer."""
    ranks = {
        release: min(preference(each)[0] for each in group)
        for release, group in groupby(found, key=lambda each: each.release)
    }

    def key(each: ListedDictionary) -> tuple[int, int, str, int]:
        layer = -1 if each.layer is None else each.layer
        return SITES.index(each.site), ranks[each.release], each.release, layer

    return sorted(found, key=key)


def _default(model: str, site: Site) -> str | None:
    """Return what a run takes at a site by default; None where that is not clear."""
    try:
        (chosen,) = choose(model, site=site)
    except SettingsError:
        return None
    return chosen.spec


def _is_here(each: ListedDictionary) -> bool:
    if each.refusal is not None or cached_folder(each.repository, None) is None:
        return False
    return cached_files(Published(each.repository, each.path, each.loader)) is not None
