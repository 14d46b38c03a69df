"""The library: functions for notebooks, which run the same code as the commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from atp.attribution.batches import plan
from atp.config.method import Method
from atp.model.dictionaries.placement import Dictionaries
from atp.model.pair_tokenizer import PairIssue, PairTokenizer, TokenizedPair
from atp.scoring.analysis_json import issue_analysis, shortest
from atp.scoring.dictionary_scorer import DictionaryScorer
from atp.scoring.preflight import check_dictionaries
from atp.scoring.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from atp.attribution.contrasts import Position
    from atp.config.method import Baseline, MethodName
    from atp.dataset.journal import Analysis
    from atp.model.dictionaries.loading import Dictionary
    from atp.model.language_model import Model


def attribute(  # noqa: PLR0913  (keywords with defaults)
    model: Model,
    sae: Dictionary,
    answers: Iterable[tuple[str, str, str]],
    *,
    base_prompts: Sequence[str] | None = None,
    method: MethodName = "atp",
    ig_steps: int = 10,
    baseline: Baseline = "zero",
    position: Position = "last",
    sequence_tokens: int | None = None,
    exact: bool = False,
    top_k: int = 50,
    max_tokens_to_check: int = 20,
    chat_template: bool = False,
    batch_tokens: int = 2048,
) -> list[Analysis]:
    """Score the features of one SAE for pairs of responses.

    Args:
        model: from `load_model`.
        sae: from `load_sae`.
        answers: (prompt, sycophantic response, neutral response) of each pair.
        base_prompts: the neutral prompt of each pair; with them, each analysis lists the features
            that are active on either prompt, and the baselines "mean" and "base" are available.
        method: "atp", attribution patching, or "ig", integrated gradients.
        ig_steps: of integrated gradients.
        baseline: the activations that scores are measured from: "zero", their "mean" over the base
            prompts, or those on the pair's own "base" prompt.
        position: where features are read: at the prompt's "last" token, from there to the end of
            the "tail", or at "all" tokens of the prompt.
        sequence_tokens: contrast the mean log-probabilities of that many first tokens of the
            responses, instead of the logits of the first tokens that differ.
        exact: also remove each listed feature in turn, and return its effect.
        top_k: how many features to list, by |score|.
        max_tokens_to_check: how many tokens of the responses to compare.
        chat_template: put prompts through the tokenizer's chat template.
        batch_tokens: most tokens in one pass, padding included.

    Returns:
        One analysis a pair, as in `atp_analysis` of a result file.

    Raises:
        SettingsError: the SAE does not fit the model, or options do not go together.
    """
    has_base = base_prompts is not None
    how = Method(method, ig_steps, baseline, position, exact=exact, prompt_activations=has_base)
    how.check(has_base_prompts=has_base)
    dictionaries = Dictionaries([sae], model.device)
    check_dictionaries(model, dictionaries, how)
    pair_tokenizer = PairTokenizer(
        model,
        max_tokens_to_check=max_tokens_to_check,
        chat_template=chat_template,
        sequence_tokens=sequence_tokens,
        base_prompts=has_base,
    )
    texts = list(answers)
    prompts = [None] * len(texts) if base_prompts is None else base_prompts
    items = [
        pair_tokenizer(*of_pair, base_prompt=prompt)
        for of_pair, prompt in zip(texts, prompts, strict=True)
    ]
    analyses = [issue_analysis(item) if isinstance(item, PairIssue) else {} for item in items]
    numbers = [i for i, item in enumerate(items) if isinstance(item, TokenizedPair)]
    pairs = [item for item in items if isinstance(item, TokenizedPair)]
    scorer = Scorer(model, dictionaries, top_k, how, batch_tokens)
    if baseline == "mean" and pairs:
        known = (pair.base_prompt for pair in pairs)
        scorer.take_means(dict.fromkeys(prompt for prompt in known if prompt is not None))
    scorer.plan_base_prompts(pairs)
    for indices in plan([pair.contrast for pair in pairs], batch_tokens, position):
        captured = scorer.capture([pairs[i] for i in indices])
        for i, (analysis,) in zip(indices, scorer.analyse([captured]), strict=True):
            analyses[numbers[i]] = analysis
    return analyses


def exact_effects(  # noqa: PLR0913  (keywords with defaults)
    model: Model,
    sae: Dictionary,
    answers: Iterable[tuple[str, str, str]],
    features: Sequence[int | str] | None = None,
    *,
    top_k: int = 50,
    max_tokens_to_check: int = 20,
    sequence_tokens: int | None = None,
    chat_template: bool = False,
    batch_tokens: int = 2048,
) -> list[dict[str, Any] | Analysis]:
    """Remove features at the prompt's last token, each in turn; return what the metric loses.

    `features` are ids; by default, the `top_k` of each pair by |score|. The other arguments are as
    in `attribute`, and so is the analysis of a pair that cannot be contrasted. Any other pair gives
    {"metric", "effects": {id: effect}, "joint_effect", "noise_floor"}.

    SettingsError is raised if the SAE does not fit the model, or has no such feature.
    """
    how = Method(exact=True)
    dictionaries = Dictionaries([sae], model.device)
    check_dictionaries(model, dictionaries, how)
    ids = None
    if features is not None:
        ids = torch.tensor(sae.feature_ids(features), dtype=torch.long, device=model.device)
    pair_tokenizer = PairTokenizer(
        model,
        max_tokens_to_check=max_tokens_to_check,
        chat_template=chat_template,
        sequence_tokens=sequence_tokens,
    )
    scorer = Scorer(model, dictionaries, top_k, how, batch_tokens)
    dictionary_scorer = DictionaryScorer(model, sae, how, top_k, batch_tokens)
    results: list[dict[str, Any]] = []
    for of_pair in answers:
        item = pair_tokenizer(*of_pair)
        if isinstance(item, PairIssue):
            results.append(issue_analysis(item))
            continue
        captured = scorer.capture([item]).captured
        with dictionaries.on_device(sae):
            scores = dictionary_scorer.score(captured, features=ids)
        (effects,) = scores.effects
        of_features = zip(scores.top[0].tolist(), effects.effects.tolist(), strict=True)
        results.append(
            {
                "metric": shortest(float(captured.metric)),
                "effects": {str(feature): shortest(effect) for feature, effect in of_features},
                "joint_effect": shortest(effects.joint),
                "noise_floor": shortest(effects.noise_floor),
            }
        )
    return results
