"""The dictionaries of a run whose user names none: chosen by model, site, layers, width and L0.

One rule serves all families, on what catalogue.py reads in SAELens' list. Only the layers by
default and the order of the releases stand here.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from atp.config.sae_choice import L0_SIZES, SITES, width_name
from atp.errors import SettingsError, did_you_mean
from atp.model.dictionaries.catalogue import counts_by_model, dictionaries_for
from atp.model.names import comparable_names
from atp.runtime.units import ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from atp.config.sae_choice import L0Size, Site
    from atp.config.settings import Settings
    from atp.model.dictionaries.catalogue import ListedDictionary

DEFAULT_LAYERS = {
    "gpt2": 8,
    "pythia-70m-deduped": 4,
    "gemma-2b": 12,
    "gemma-2b-it": 12,
    "gemma-2-2b": 19,
    "gemma-2-9b": 31,
    "gemma-2-9b-it": 31,
    "gemma-2-27b": 34,
    **dict.fromkeys(("gemma-3-270m", "gemma-3-270m-it"), 12),
    **dict.fromkeys(("gemma-3-1b-pt", "gemma-3-1b-it"), 17),
    **dict.fromkeys(("gemma-3-4b-pt", "gemma-3-4b-it"), 22),
    **dict.fromkeys(("gemma-3-12b-pt", "gemma-3-12b-it"), 31),
    **dict.fromkeys(("gemma-3-27b-pt", "gemma-3-27b-it"), 40),
    "mistral-7b-v0.1": 24,
    "meta-llama-3-8b-instruct": 25,
    "llama-3.1-8b": 23,
    "llama-3.1-8b-instruct": 19,
    "deepseek-r1-distill-llama-8b": 23,
    "llama-3.3-70b-instruct": 50,
    "qwen2.5-7b-instruct": 19,
    **dict.fromkeys(("qwen3-0.6b", "qwen3-1.7b", "qwen3-1.7b-base"), 20),
    **dict.fromkeys(("qwen3-4b", "qwen3-8b", "qwen3-8b-base"), 26),
    "qwen3-14b": 29,
    "qwen3-30b-a3b-base": 35,
    "qwen3.5-2b-base": 17,
    "qwen3.5-9b-base": 23,
    "qwen3.5-27b": 47,
    "qwen3.5-35b-a3b-base": 29,
    "gpt-oss-20b": 15,
}
"""By model: about three quarters of its depth, or as near as its main release comes to that.

At another site the nearest layer that there is.
"""
PREFERRED = (
    r"gemma-scope-.*-canonical:",
    r"gemma-scope-2-(?!.*-all:)",  # a few layers, at each of which there is more to choose
    r"gemma-scope-",
    r"llama_scope_l",
    r"llama_scope_r1_distill:.*_400m_openr1_math$",  # trained on both sets of texts
    r"goodfire-",
    r".*-andyrdt:",
    r"qwen-scope-",
    r"mwhanna-",
    r"gpt2-small-(resid-post|mlp-out|attn-out)-v5-",
    r"gpt2-small-res-jb:",
    r"pythia-70m-deduped-",
)
"""How names of dictionaries begin, the preferred first; all others come after these."""
L0_ORDER: tuple[L0Size | None, ...] = ("medium", None, "small", "big")


def sae_specs(settings: Settings) -> tuple[str, ...]:
    """Return the SAEs of a run: those that the user names, or patterns; else those chosen."""
    return settings.sae or tuple(
        each.spec
        for each in choose(
            settings.model,
            settings.hook_layer,
            settings.sae_width,
            settings.sae_l0,
            settings.sae_site,
        )
    )


def choose(
    model: str,
    layers: Sequence[int] = (),
    width: int | None = None,
    l0: L0Size | None = None,
    site: Site | None = None,
) -> list[ListedDictionary]:
    """Return a model's dictionary for each layer, all of one release, width and L0.

    What is not given has a default: the model's layer, the preferred release that has all layers,
    its narrowest width and its medium L0. Raises SettingsError that says what there is instead.
    """
    listed = [
        each
        for each in dictionaries_for(frozenset(comparable_names(model)))
        if each.refusal is None
    ]
    if not listed:
        raise unknown_model(model)
    if site is None:
        site = min((each.site for each in listed), key=SITES.index)
    found = _only(listed, f"--sae-site={site}", model, _site, site)
    layers = layers or (_default_layer(model, found),)
    by_layer = {
        layer: _only(found, f"--hook-layer={layer}", model, _layer, layer) for layer in layers
    }
    for option, value, of in (
        ("--sae-width", width, _width),
        ("--sae-l0", l0, _l0_size),
    ):
        if value is not None:
            shown = width_name(value) if isinstance(value, int) else value
            by_layer = {
                layer: _only(left, f"{option}={shown}", f"{model} at layer {layer}", of, value)
                for layer, left in by_layer.items()
            }
    groups: dict[tuple[Any, ...], list[ListedDictionary]] = defaultdict(list)
    for left in by_layer.values():
        for each in left:
            groups[preference(each)].append(each)
    whole = [key for key, group in groups.items() if {each.layer for each in group} == {*layers}]
    if not whole:
        msg = f"no release of {model} has all of --hook-layer={','.join(map(str, layers))}."
        raise SettingsError(msg, "Name each dictionary: --sae=RELEASE:SAE_ID, as often as needed.")
    chosen = groups[min(whole)]
    if len(chosen) > len(layers):
        msg = f"{model} has several dictionaries that fit."
        names = ", ".join(each.spec for each in chosen[:3])
        raise SettingsError(msg, f"Name one with --sae, as in {names}; atp saes lists all.")
    return sorted(chosen, key=lambda each: layers.index(each.layer or 0))


def unknown_model(model: str) -> SettingsError:
    """Return the error of a model without dictionaries in SAELens' list."""
    near = did_you_mean(model, counts_by_model())
    msg = f"no SAE is known for the model {model!r}."
    return SettingsError(msg, f"{near} Name one with --sae=RELEASE:SAE_ID or --sae=FOLDER.".strip())


def _default_layer(model: str, found: Sequence[ListedDictionary]) -> int:
    names = comparable_names(model) & DEFAULT_LAYERS.keys()
    if not names:  # of a newer SAELens
        msg = f"no layer of {model} is chosen by default."
        raise SettingsError(msg, f"Choose one with --hook-layer; it has {_values(found, _layer)}.")
    wanted = DEFAULT_LAYERS[min(names)]
    layers = {each.layer for each in found if each.layer is not None}
    return min(layers, key=lambda layer: (abs(layer - wanted), layer))


def _only(
    found: Sequence[ListedDictionary],
    option: str,
    model: str,
    of: Callable[[ListedDictionary], object],
    value: object,
) -> list[ListedDictionary]:
    """Return those that have a value, or raise SettingsError that names the values there are."""
    left = [each for each in found if of(each) == value]
    if not left:
        msg = f"{option}: {model} has no such dictionary."
        raise SettingsError(msg, f"It has {_values(found, of)}; atp saes lists all of a model.")
    return left


def _values(found: Collection[ListedDictionary], of: Callable[[ListedDictionary], object]) -> str:
    values = {value for each in found if (value := of(each)) is not None}
    numbers = sorted(value for value in values if isinstance(value, int))
    if not values:
        return "no choice of that"
    if not numbers:
        return ", ".join(name for name in (*SITES, *L0_SIZES) if name in values)
    if of is _width:
        return ", ".join(map(width_name, numbers))
    return f"layer{'s' if len(numbers) > 1 else ''} {ranges(numbers)}"


def preference(each: ListedDictionary) -> tuple[Any, ...]:
    """Return what the dictionaries of a run share, the preferred first."""
    places = (place for place, name in enumerate(PREFERRED) if re.match(name, each.spec))
    return (
        next(places, len(PREFERRED)),
        each.is_variant,
        (each.hook_name or "").endswith(("_pre", "_mid")),  # most are of the end of a layer
        each.d_sae or 0,
        L0_ORDER.index(each.l0_size),
        each.release,
    )


def _site(each: ListedDictionary) -> Site:
    return each.site


def _layer(each: ListedDictionary) -> int | None:
    return each.layer


def _width(each: ListedDictionary) -> int | None:
    return each.d_sae


def _l0_size(each: ListedDictionary) -> L0Size | None:
    return each.l0_size
