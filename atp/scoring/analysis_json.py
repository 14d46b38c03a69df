"""The content of `atp_analysis`: scores as JSON values, each of them checked to be finite."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from atp.attribution.scores import IDENTITY_TOLERANCE
from atp.config.method import COMPLETE_GAP
from atp.scoring.position_scores import strongest_positions, token_scores
from atp.scoring.shortest import shortest, shortest_table
from atp.stats.agreement import agreement

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from atp.dataset.journal import Analysis
    from atp.model.pair_tokenizer import PairIssue, TokenizedPair
    from atp.scoring.dictionary_scorer import DictionaryScores

SHARES = ("variance_explained", "features", "bias", "sae_error")


def issue_analysis(issue: PairIssue) -> Analysis:
    """Return the analysis of a pair that cannot be contrasted."""
    return {"error" if issue.failed else "skipped": issue.reason, "details": issue.details}


def error_analysis(error: Exception) -> Analysis:
    """Return the analysis of a pair whose scoring raised an exception."""
    message = str(error).splitlines()[0] if str(error) else ""
    return {"error": type(error).__name__, "details": {"message": message}}


def pair_analyses(
    batch: Sequence[TokenizedPair],
    found: DictionaryScores,
    prompt_tokens: Sequence[str] | None = None,
) -> list[Analysis]:
    """Return one analysis a pair: its strongest features, or its numbers that are not finite.

    `prompt_tokens` are the texts of the tokens of a single pair's prompt, for --position=all.
    """
    metric, scores, top = found.captured.metric, found.scores, found.top
    # All features count, not only the listed ones: NaN sorts anywhere.
    finite = torch.isfinite(scores.scores.sum(dim=1) + scores.gradients.sum(dim=1))
    for row, removed in enumerate(found.removed):
        finite[row] &= torch.isfinite(removed.measured.effects).all()
    of_pair = [metric, scores.identity_gap, scores.n_active, finite]
    shares = (*SHARES, "skip") if found.has_skip else SHARES
    of_pair += [getattr(scores, name) for name in shares]
    extra_columns = _extra_columns(found)
    of_features = {
        "score": scores.scores.gather(1, top),
        "activation": scores.activations.gather(1, top),
        "gradient": scores.gradients.gather(1, top),
        **extra_columns,
    }
    if found.removed:
        of_features["effect"] = found.effects.gather(1, top)  # NaN where it was not measured
    # One copy to the host; float64 holds ids and float32 numbers exactly.
    columns = [*(table[:, None].double() for table in of_pair), top.double()]
    columns += [table.double() for table in of_features.values()]
    rows = torch.cat(columns, dim=1).cpu().numpy()
    with np.errstate(over="ignore"):  # a number beyond float32 is not finite, either
        narrow = rows.astype(np.float32)
    start, k = len(of_pair), top.shape[1]
    first, count = start + 4 * k, len(extra_columns) * k  # after ids and the first three
    must_be_finite = [*range(start), *range(first, first + count)]
    usable = np.isfinite(narrow[:, must_be_finite]).all(axis=1) & (narrow[:, 3] > 0)
    ids = rows[:, start : start + k].astype(int).tolist()
    numbers_of_pairs = shortest_table(narrow)
    analyses: list[Analysis] = []
    for index, pair in enumerate(batch):
        numbers = numbers_of_pairs[index]
        if not usable[index]:
            where = _not_finite(float(metric[index]), found, extra_columns, index)
            analyses.append({"error": "Not finite", "details": {"where": where}})
        elif numbers[1] > IDENTITY_TOLERANCE:
            details = {"gap": numbers[1]}
            analyses.append({"error": "Reconstruction identity violated", "details": details})
        else:
            lists = [numbers[at : at + k] for at in range(start + k, len(numbers), k)]
            by_name = dict(zip(of_features, lists, strict=True)) if k else {}
            diagnostics = dict(zip(("n_active", *shares), (numbers[2], *numbers[4:]), strict=False))
            analysis = _scored(pair, numbers[0], diagnostics, _features(ids[index], by_name))
            analysis = _with_method_fields(analysis, pair, found, index)
            if prompt_tokens is not None and "top_features" in analysis:
                analysis["prompt_tokens"] = prompt_tokens
            analyses.append(analysis)
    return analyses


def _extra_columns(found: DictionaryScores) -> dict[str, Tensor]:
    """Return the further numbers of each listed feature, (pair, k), by name."""
    columns = {"relative_size": found.scores.relative_size.gather(1, found.top)}
    if found.baseline is not None:
        columns["base_activation"] = found.baseline.gather(1, found.top)
    return columns


def _features(
    ids: Sequence[int], numbers: Mapping[str, Sequence[float | None]]
) -> list[dict[str, Any]]:
    features = [
        {"id": str(feature), **dict(zip(numbers, values, strict=True))}
        for feature, *values in zip(ids, *numbers.values(), strict=True)
    ]
    for feature in features if "effect" in numbers else ():
        if feature["effect"] is None:
            del feature["effect"]
        feature["ranked_by"] = "effect" if "effect" in feature else "score"
    return features


def _scored(
    pair: TokenizedPair,
    metric: float,
    diagnostics: dict[str, float],
    features: list[dict[str, Any]],
) -> dict[str, Any]:
    n_active = diagnostics["n_active"]
    whole = float(n_active).is_integer()  # a mean over positions need not be
    sequences = pair.contrast.sequences
    if sequences is None:
        metric_fields: dict[str, Any] = {"logit_diff": metric}
    else:
        metric_fields = {"log_prob_diff": metric, "sequence_tokens": [*map(len, sequences)]}
    return {
        "target_token": pair.target_text,
        "base_token": pair.base_text,
        "token_position": pair.contrast.offset,
        **metric_fields,
        "boundary": pair.boundary,
        "target_token_id": pair.contrast.target_token,
        "base_token_id": pair.contrast.base_token,
        "diagnostics": {**diagnostics, "n_active": int(n_active) if whole else n_active},
        "top_features": features,
    }


def _with_method_fields(
    analysis: dict[str, Any], pair: TokenizedPair, found: DictionaryScores, index: int
) -> Analysis:
    """Add the fields that only some methods have."""
    diagnostics = {
        **(_path_diagnostics(found, index) if found.integrated else {}),
        **(_exact_diagnostics(found, index) if found.removed else {}),
    }
    fields = {}
    if found.method.prompt_activations and found.base_activations is not None:
        base = found.base_activations[index].cpu()
        fields = {"prompt_activations": _prompt_activations(pair, found, index, base)}
    numbers = [*_numbers(diagnostics), *_numbers(fields)]
    not_finite = [name for name, value in numbers if not math.isfinite(value)]
    if not_finite:
        return {"error": "Not finite", "details": {"where": [*dict.fromkeys(not_finite)]}}
    analysis["diagnostics"] |= diagnostics
    if found.method.position != "last":
        strongest = strongest_positions(pair, found)
        for feature, positions in zip(analysis["top_features"], strongest, strict=True):
            feature["positions"] = positions
    if found.method.position == "all":
        for feature, of_tokens in zip(analysis["top_features"], token_scores(found), strict=True):
            feature["token_scores"] = of_tokens
    return analysis | fields


def _path_diagnostics(found: DictionaryScores, index: int) -> dict[str, Any]:
    change = found.integrated[index].change
    total = float(found.scores.scores[index].double().sum())
    gap = shortest(abs(total - change) / abs(change)) if change else None
    return {
        "path": {
            "change": shortest(change),
            "sum_of_scores": shortest(total),
            "completeness_gap": gap,
            "complete": gap is not None and gap <= COMPLETE_GAP,
        }
    }


def _exact_diagnostics(found: DictionaryScores, index: int) -> dict[str, Any]:
    """Return what was removed and, if all listed features were, how well scores agree with it."""
    plan, measured = found.removed[index].plan, found.removed[index].measured
    numbers: dict[str, float | None] = {}
    if found.method.exact == "all":
        scores = found.scores.scores[index, measured.features][measured.changed]
        effects = measured.effects[measured.changed]
        numbers = {
            **agreement(scores.tolist(), effects.tolist()),
            "joint_effect": measured.joint,
            "joint_score": float(scores.double().sum()),
        }
    numbers |= {
        "noise_floor": measured.noise_floor,
        "error_scale": found.removed[index].error_scale,
    }
    sample = {}
    if plan.sample is not None:
        of_sample = {
            "score": found.scores.scores[index, plan.sample],
            "relative_size": found.scores.relative_size[index, plan.sample],
            "effect": measured.effects[measured.features == plan.sample],
        }
        by_name = {name: shortest(float(value)) for name, value in of_sample.items()}
        sample = {"sample": {"id": str(plan.sample), **by_name}}
    return {
        "exact": {
            "features": int(measured.changed.sum()),
            "flagged": plan.flagged,
            **{
                name: None if number is None else shortest(number)
                for name, number in numbers.items()
            },
            "unchecked": plan.unchecked,
            **sample,
        }
    }


def _prompt_activations(
    pair: TokenizedPair, found: DictionaryScores, index: int, base: Tensor
) -> dict[str, Any]:
    """Return the features that are active on the flagged or the base prompt."""
    row = index
    if found.method.position != "last":  # the scores of one pair: take its prompt's last token
        row = found.captured.positions.index((pair.contrast.prompt_length - 1, 0))
    flagged = found.at_positions.activations[row].cpu()
    active = ((flagged != 0) | (base != 0)).nonzero()[:, 0]
    return {
        "ids": [str(feature) for feature in active.tolist()],
        "flagged": [shortest(value) for value in flagged[active].tolist()],
        "base": [shortest(value) for value in base[active].tolist()],
    }


def _numbers(values: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the numbers in nested values with their names; those of a list share its name."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", number) for inner, number in _numbers(value))
        elif isinstance(value, list):
            yield from ((name, number) for number in value if isinstance(number, float))
        elif isinstance(value, float):
            yield name, value


def _not_finite(
    metric: float, found: DictionaryScores, extra_columns: dict[str, Tensor], index: int
) -> list[str]:
    tables = {
        "activation": found.scores.activations,
        "gradient": found.scores.gradients,
        "score": found.scores.scores,
        **extra_columns,
    }
    where = [name for name, table in tables.items() if not torch.isfinite(table[index]).all()]
    if not np.isfinite(metric):
        where.insert(0, "metric")
    return where or ["diagnostics"]
