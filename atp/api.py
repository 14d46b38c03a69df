"""What a notebook calls: the same code as the command, on texts at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from atp.attribution import effects
from atp.attribution.batches import plan
from atp.attribution.patched_run import patched_run
from atp.attribution.scores import score, top_features
from atp.config.method import Method
from atp.model.dictionaries.placement import Dictionaries
from atp.model.pair_tokenizer import PairIssue, PairTokenizer, TokenizedPair
from atp.scoring.analysis_json import issue_analysis, shortest
from atp.scoring.scorer import Scorer, check_dictionaries

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from atp.attribution.contrasts import Position
    from atp.config.method import Baseline, MethodName
    from atp.dataset.journal import Analysis
    from atp.model.dictionaries.loading import Dictionary
    from atp.model.loading import Model


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
    """Score the features of one SAE for pairs of answers.

    Args:
        model: from `load_model`.
        sae: from `load_sae`.
        answers: (prompt, sycophantic response, neutral response) of each pair.
        base_prompts: the neutral prompt of each pair; with them, each analysis says which features
            are active on either prompt, and the baselines "mean" and "base" can be had.
        method: "atp", attribution patching, or "ig", integrated gradients.
        ig_steps: of integrated gradients.
        baseline: what activations are compared with: nothing, their mean over the base prompts, or
            what they are on the pair's own base prompt.
        position: where features are read: at the prompt's "last" token, from there to the "tail"'s
            end, or at "all" tokens of the prompt.
        sequence_tokens: contrast the mean log-probabilities of that many first tokens of the
            answers, instead of the logits of the first tokens that differ.
        exact: also remove each listed feature in turn, and tell its effect.
        top_k: how many features to list, by |score|.
        max_tokens_to_check: how many tokens of the answers to compare.
        chat_template: put prompts through the tokenizer's chat template.
        batch_tokens: most tokens in one pass, padding included.

    Returns:
        One analysis a pair, as the result file has it in `atp_analysis`.

    Raises:
        SettingsError: the SAE does not belong to the model, or options do not go together.
    """
    how = Method(
        method,
        ig_steps,
        baseline,
        position,
        exact=exact,
        prompt_activations=base_prompts is not None,
    )
    how.check(has_base_prompts=base_prompts is not None)
    dictionaries = Dictionaries([sae], model.device)
    check_dictionaries(model, dictionaries, how)
    pair_tokenizer = PairTokenizer(
        model,
        max_tokens_to_check=max_tokens_to_check,
        chat_template=chat_template,
        sequence_tokens=sequence_tokens,
    )
    texts = list(answers)
    prompts = [None] * len(texts) if base_prompts is None else list(base_prompts)
    found = [
        pair_tokenizer.with_base_prompt(pair_tokenizer(*three), prompt)
        if base_prompts
        else pair_tokenizer(*three)
        for three, prompt in zip(texts, prompts, strict=True)
    ]
    analyses = [issue_analysis(item) if isinstance(item, PairIssue) else {} for item in found]
    places = [i for i, item in enumerate(found) if isinstance(item, TokenizedPair)]
    contrasted = [item for item in found if isinstance(item, TokenizedPair)]
    scorer = Scorer(model, dictionaries, top_k, how, batch_tokens)
    neutral = [item.base_prompt for item in contrasted if item.base_prompt is not None]
    if baseline == "mean" and neutral:
        scorer.take_means(dict.fromkeys(neutral))
    scorer.base_prompts.plan(neutral)
    for indices in plan([item.contrast for item in contrasted], batch_tokens, position):
        readings = [scorer.read([contrasted[i] for i in indices])]
        for i, (analysis,) in zip(indices, scorer.analyse(readings), strict=True):
            analyses[places[i]] = analysis
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
    """Remove features at the prompt's last token, each in turn, and tell what the metric loses.

    Args:
        model: from `load_model`.
        sae: from `load_sae`.
        answers: (prompt, sycophantic response, neutral response) of each pair.
        features: their ids; by default, the `top_k` of each pair by |score|.
        top_k: see above.
        max_tokens_to_check: how many tokens of the answers to compare.
        sequence_tokens: as of `attribute`.
        chat_template: put prompts through the tokenizer's chat template.
        batch_tokens: most tokens in one pass, padding included.

    Returns:
        For each pair {"metric", "effects": {id: effect}, "joint_effect", "noise_floor"}; for one
        that cannot be contrasted, what `attribute` says of it.

    Raises:
        SettingsError: the SAE does not belong to the model, or has no such feature.
    """
    how = Method(exact=True)
    dictionaries = Dictionaries([sae], model.device)
    check_dictionaries(model, dictionaries, how)
    chosen = None if features is None else sae.feature_ids(features)
    pair_tokenizer = PairTokenizer(
        model,
        max_tokens_to_check=max_tokens_to_check,
        chat_template=chat_template,
        sequence_tokens=sequence_tokens,
    )
    scorer = Scorer(model, dictionaries, top_k, how, batch_tokens)
    found: list[dict[str, Any]] = []
    for texts in answers:
        item = pair_tokenizer(*texts)
        if isinstance(item, PairIssue):
            found.append(issue_analysis(item))
            continue
        reading = scorer.read([item]).found
        x, g = (sae.view(table[sae.hook_name]) for table in (reading.residuals, reading.gradients))
        with dictionaries.on_device(sae) as weights:
            scores = score(weights, x, g)
            ids = top_features(scores.scores, top_k)[0]
            if chosen is not None:
                ids = torch.tensor(chosen, device=model.device)
            replay = patched_run(model, reading, 0, sae.hook_name, batch_tokens)
            metric = float(reading.metric)
            each = effects.exact_effects(replay, weights, x, -scores.activations, metric, ids)
        found.append(
            {
                "metric": shortest(metric),
                "effects": {
                    str(feature): shortest(effect)
                    for feature, effect in zip(ids.tolist(), each.effects.tolist(), strict=True)
                },
                "joint_effect": shortest(each.joint),
                "noise_floor": shortest(each.noise_floor),
            }
        )
    return found
