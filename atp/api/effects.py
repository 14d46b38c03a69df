"""`exact_effects`: chosen features are removed, and the model is run again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from atp.api.scoring import Call
from atp.api.session import bar, library_log
from atp.config.method import Method
from atp.errors import SettingsError
from atp.model.halving import in_halves
from atp.model.pair_tokenizer import TokenizedPair
from atp.run.batch_runner import pair_error
from atp.scoring.shortest import shortest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor

    from atp.api.loading import AnyModel, AnySae, AnyTokenizer
    from atp.api.pairs import Pairs
    from atp.dataset.journal import Analysis


def exact_effects(  # noqa: PLR0913  (keywords with defaults)
    model: AnyModel,
    sae: AnySae,
    pairs: Pairs,
    features: Iterable[int | str] | None = None,
    *,
    tokenizer: AnyTokenizer | None = None,
    sequence_tokens: int | None = None,
    top_k: int = 50,
    max_tokens_to_check: int = 20,
    chat_template: bool = False,
    batch_tokens: int | None = None,
    allow_other_model: bool = False,
    progress: bool = True,
) -> list[Analysis]:
    """Remove features at the prompt's last token, each in turn; return what the metric loses.

    Args:
        model: as for `attribute`.
        sae: one SAE, as for `attribute`.
        pairs: as for `attribute`, and so are all arguments that are not named here.
        features: their numbers; by default, the `top_k` of each pair by absolute score.
        tokenizer: see there.
        sequence_tokens: see there.
        top_k: how many features, unless they are given.
        max_tokens_to_check: see there.
        chat_template: see there.
        batch_tokens: see there.
        allow_other_model: see there.
        progress: show a bar on a terminal.

    Returns:
        Of each pair, {"metric", "effects": {id: effect}, "joint_effect", "noise_floor"}, in logits;
        or the analysis of a pair that is skipped or has an error, as `attribute` gives it.

    Raises:
        SettingsError: the SAE does not fit the model, or has no such feature; otherwise as for
            `attribute`.

    Example:
        >>> for of_pair in exact_effects("models/tiny", "saes/layer1", pairs, [3, 17]):
        ...     print(list(of_pair["effects"]))
        ['3', '17']
        ['3', '17']
    """
    call = Call.of(
        model,
        sae,
        pairs,
        tokenizer=tokenizer,
        exact="all",
        sequence_tokens=sequence_tokens,
        top_k=top_k,
        max_tokens_to_check=max_tokens_to_check,
        chat_template=chat_template,
        batch_tokens=batch_tokens,
        allow_other_model=allow_other_model,
    )
    if len(call.dictionaries) > 1:
        msg = f"exact_effects takes one SAE, not {len(call.dictionaries)}."
        raise SettingsError(msg, "Call it for each of them.")
    (dictionary,) = call.dictionaries
    ids = None
    if features is not None:
        numbers = dictionary.feature_ids(features)
        ids = torch.tensor(numbers, dtype=torch.long, device=call.model.device)
    measure = _measure(call, ids)
    results: list[Analysis] = []
    with library_log(), bar(call.source.scan.pairs, shown=progress) as line:
        for pair in call.source.pairs():
            item = call.tokenised(pair)
            if isinstance(item, TokenizedPair):
                results += in_halves(call.model, measure, [item], pair_error)
            else:
                results.append(item)
            line.advance(1)
    return results


def _measure(
    call: Call, features: Tensor | None
) -> Callable[[Sequence[TokenizedPair]], list[Analysis]]:
    """Return a function from one pair to its effects."""
    scorer, (dictionary,) = call.runner.scorer, call.dictionaries

    def measure(pair: Sequence[TokenizedPair]) -> list[Analysis]:
        captured = scorer.capture(pair).captured
        with call.dictionaries.on_device(dictionary):
            of_sae = replace(scorer.of_dictionary(dictionary), method=Method())
            chosen = of_sae.score(captured).top[0] if features is None else features
            effects = of_sae.effects(captured, chosen)
        by_feature = zip(chosen.tolist(), effects.effects.tolist(), strict=True)
        return [
            {
                "metric": shortest(float(captured.metric)),
                "effects": {str(feature): shortest(effect) for feature, effect in by_feature},
                "joint_effect": shortest(effects.joint),
                "noise_floor": shortest(effects.noise_floor),
            }
        ]

    return measure
