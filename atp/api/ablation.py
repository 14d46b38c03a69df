"""`ablate`: a model without some features, for as long as a context lasts."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from atp.api.loading import checked_saes, load_model, offline_if_all_fetched, sae_of
from atp.api.session import library_log
from atp.errors import SettingsError
from atp.intervention.ablate import FeatureSet, ablated
from atp.model.borrowed import live
from atp.scoring.places import check_places

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel

    from atp.api.loading import AnySae, AnyTokenizer
    from atp.model.language_model import Model

    InMemory = TypeVar("InMemory", bound=Model | TransformerBridge | PreTrainedModel)


@overload
def ablate(
    model: str | Path,
    sae: AnySae,
    features: Iterable[int | str],
    strength: float = ...,
    *,
    first_position: bool = ...,
    tokenizer: AnyTokenizer | None = ...,
    allow_other_model: bool = ...,
) -> AbstractContextManager[Model]: ...
@overload
def ablate(
    model: InMemory,
    sae: AnySae,
    features: Iterable[int | str],
    strength: float = ...,
    *,
    first_position: bool = ...,
    tokenizer: AnyTokenizer | None = ...,
    allow_other_model: bool = ...,
) -> AbstractContextManager[InMemory]: ...
@contextmanager
def ablate(  # noqa: PLR0913  (keywords with defaults)
    model: Any,
    sae: AnySae,
    features: Iterable[int | str],
    strength: float = 1.0,
    *,
    first_position: bool = True,
    tokenizer: AnyTokenizer | None = None,
    allow_other_model: bool = False,
) -> Iterator[Any]:
    """Have a model run without some features: every pass, and every generation.

    At each position, x -> x - strength * sum of (activation * decoder direction) of the features.
    For several SAEs, nest it: on one hook point, an inner one reads what an outer one has left.

    A Hugging Face model has no hook points: while the context lasts, its passes run through a copy
    that shares its weights. Hooks that are registered on its modules within have no effect.

    Args:
        model: as for `attribute`.
        sae: one SAE, as for `attribute`.
        features: their numbers.
        strength: the share of the contribution that is removed; 1 is all of it.
        first_position: False spares the first position of a text (the BOS token).
        tokenizer: of a Hugging Face model.
        allow_other_model: accept a named SAE that was trained on a model of another name.

    Yields:
        The model that runs without the features: the object that was given, or that of the name.

    Raises:
        SettingsError: the SAE has no such feature, or the model lacks its hook point.
        UnavailableError: the model, the SAE or the device cannot be had.

    Example:
        >>> with ablate("models/tiny", "saes/layer1", [3, 17]) as model:
        ...     without = attribute(model, "saes/layer1", pairs)
        >>> whole = attribute("models/tiny", "saes/layer1", pairs)
        >>> bool((without.metric != whole.metric).all())
        True
    """
    saes = checked_saes(model, sae, allow_other_model=allow_other_model)
    if len(saes) > 1:
        msg = f"ablate takes one SAE, not {len(saes)}."
        raise SettingsError(msg, "Nest it: one context for each of them.")
    with library_log(), offline_if_all_fetched(model, saes):
        given = load_model(model) if isinstance(model, str | Path) else model
        dictionary = sae_of(saes[0])
    selected = FeatureSet(dictionary, tuple(dictionary.feature_ids(features)))
    with live(given, tokenizer) as hooked:
        check_places(hooked, dictionary)
        dictionary.sae.to(hooked.device)
        with ablated(hooked, [selected], strength, first_position=first_position):
            yield given
