"""The content of `atp_analysis`: scores as JSON values, each of them checked to be finite."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import torch

from atp.attribution.scores import IDENTITY_TOLERANCE
from atp.stats.agreement import agreement

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from atp.dataset.journal import Analysis
    from atp.model.pair_tokenizer import PairIssue, TokenizedPair
    from atp.scoring.dictionary_scorer import DictionaryScores

SHARES = ("variance_explained", "features", "bias", "sae_error")
STRONGEST_POSITIONS = 3  # named for each listed feature, where features are read at several


def issue_analysis(issue: PairIssue) -> Analysis:
    """Return the analysis of a pair that cannot be contrasted."""
    return {"error" if issue.failed else "skipped": issue.reason, "details": issue.details}


def error_analysis(error: Exception) -> Analysis:
    """Return the analysis of a pair whose scoring raised an exception."""
    message = str(error).splitlines()[0] if str(error) else ""
    return {"error": type(error).__name__, "details": {"message": message}}


def pair_analyses(batch: Sequence[TokenizedPair], found: DictionaryScores) -> list[Analysis]:
    """Return one analysis a pair: its strongest features, or its numbers that are not finite."""
    metric, scores, top = found.captured.metric, found.scores, found.top
    # All features count, not only the listed ones: NaN sorts anywhere.
    finite = torch.isfinite(scores.scores.sum(dim=1) + scores.gradients.sum(dim=1))
    of_pair = [metric, scores.identity_gap, scores.n_active, finite]
    of_pair += [getattr(scores, name) for name in SHARES]
    extra_columns = _extra_columns(found)
    of_features = {
        "score": scores.scores.gather(1, top),
        "activation": scores.activations.gather(1, top),
        "gradient": scores.gradients.gather(1, top),
        **extra_columns,
    }
    # One copy to the host; float64 holds ids and float32 numbers exactly.
    columns = [*(table[:, None].double() for table in of_pair), top.double()]
    columns += [table.double() for table in of_features.values()]
    rows = torch.cat(columns, dim=1).cpu().numpy()
    with np.errstate(over="ignore"):  # a number beyond float32 is not finite, either
        narrow = rows.astype(np.float32)
    start, k = len(of_pair), top.shape[1]
    must_be_finite = [*range(start), *range(start + 4 * k, narrow.shape[1])]
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
            analysis = _scored(pair, numbers, _features(ids[index], by_name))
            analyses.append(_with_method_fields(analysis, pair, found, index))
    return analyses


def _extra_columns(found: DictionaryScores) -> dict[str, Tensor]:
    """Return the further numbers of each listed feature, (pair, k), by name."""
    columns = {}
    if found.baseline is not None:
        columns["base_activation"] = found.baseline.gather(1, found.top)
    if found.effects:
        columns["effect"] = torch.stack([of_pair.effects for of_pair in found.effects])
    return columns


def _features(ids: Sequence[int], numbers: dict[str, list[float]]) -> list[dict[str, Any]]:
    return [
        {"id": str(feature), **dict(zip(numbers, values, strict=True))}
        for feature, *values in zip(ids, *numbers.values(), strict=True)
    ]


def _scored(
    pair: TokenizedPair, numbers: list[float], features: list[dict[str, Any]]
) -> dict[str, Any]:
    metric, _, n_active, _, *shares = numbers[: 4 + len(SHARES)]
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
        "diagnostics": {
            "n_active": int(n_active) if whole else n_active,
            **dict(zip(SHARES, shares, strict=True)),
        },
        "top_features": features,
    }


def _with_method_fields(
    analysis: dict[str, Any], pair: TokenizedPair, found: DictionaryScores, index: int
) -> Analysis:
    """Add the fields that only some methods have."""
    diagnostics = {
        **(_path_diagnostics(found, index) if found.integrated else {}),
        **(_exact_diagnostics(found, index) if found.effects else {}),
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
        strongest = _strongest_positions(pair, found)
        for feature, positions in zip(analysis["top_features"], strongest, strict=True):
            feature["positions"] = positions
    return analysis | fields


def _path_diagnostics(found: DictionaryScores, index: int) -> dict[str, Any]:
    change = found.integrated[index].change
    total = float(found.scores.scores[index].double().sum())
    return {
        "path": {
            "change": shortest(change),
            "sum_of_scores": shortest(total),
            "completeness_gap": shortest(abs(total - change) / abs(change)) if change else None,
        }
    }


def _exact_diagnostics(found: DictionaryScores, index: int) -> dict[str, Any]:
    """Return how well the scores of the removed features agree with their effects."""
    effects = found.effects[index]
    scores = found.scores.scores[index].gather(0, found.top[index])
    changed = effects.changed > 0
    agreed = agreement(scores[changed].tolist(), effects.effects[changed].tolist())
    return {
        "exact": {
            "features": int(changed.sum()),
            **{name: None if value is None else shortest(value) for name, value in agreed.items()},
            "joint_effect": shortest(effects.joint),
            "joint_score": shortest(float(scores.double().sum())),
            "noise_floor": shortest(effects.noise_floor),
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


def _strongest_positions(
    pair: TokenizedPair, found: DictionaryScores
) -> list[list[dict[str, Any]]]:
    """Return, for each listed feature of a single pair, the positions of largest |score|."""
    top = found.top[0]
    scores = found.at_positions.scores[:, top].T.cpu()  # (k, position)
    activations = found.at_positions.activations[:, top].T.cpu()
    order = scores.abs().sort(dim=1, descending=True, stable=True).indices[:, :STRONGEST_POSITIONS]

    def describe(feature: int, row: int) -> dict[str, Any]:
        position, text = found.captured.positions[row]
        in_response = position >= pair.contrast.prompt_length
        return {
            "position": position,
            **({"answer": ("flagged", "base")[text]} if in_response else {}),
            "score": shortest(float(scores[feature, row])),
            "activation": shortest(float(activations[feature, row])),
        }

    return [
        [describe(feature, row) for row in rows if scores[feature, row] != 0]
        for feature, rows in enumerate(order.tolist())
    ]


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


def shortest(value: float) -> float:
    """Return a float32 number as the float with the fewest digits."""
    with np.errstate(over="ignore"):
        return float(str(np.float32(value)))


def shortest_table(table: np.ndarray[Any, Any]) -> list[list[float]]:
    """Return float32 numbers as floats with the fewest digits; None for one that is not finite.

    orjson writes a float32 that way; reading its text back takes a tenth of Python's own time.
    """
    text = orjson.dumps(table, option=orjson.OPT_SERIALIZE_NUMPY)
    rows: list[list[float]] = orjson.loads(text)
    return rows
