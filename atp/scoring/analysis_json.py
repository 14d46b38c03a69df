"""From scores to the content of `atp_analysis`: JSON values, each of them checked to be finite."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import torch

from atp.attribution.scores import IDENTITY_TOLERANCE, Scores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from atp.dataset.journal import Analysis
    from atp.model.pair_tokenizer import PairIssue, TokenizedPair

SHARES = ("variance_explained", "features", "bias", "sae_error")


def issue_analysis(reason: PairIssue) -> Analysis:
    """Return the analysis of a pair that has no contrast."""
    return {"error" if reason.failed else "skipped": reason.reason, "details": reason.details}


def failed(error: Exception) -> Analysis:
    """Return the analysis of a pair that is left with an exception."""
    message = str(error).splitlines()[0] if str(error) else ""
    return {"error": type(error).__name__, "details": {"message": message}}


@dataclass(frozen=True)
class Listing:
    """What is told of the features of some pairs, beyond their scores."""

    top: Tensor
    """The ids of those that are listed, (pair, k)."""
    columns: dict[str, Tensor] = field(default_factory=dict)
    """Further numbers of each listed feature, (pair, k), by name."""
    diagnostics: Sequence[dict[str, Any]] = ()
    """Further diagnostics of each pair."""
    fields: Sequence[dict[str, Any]] = ()
    """Further fields of each pair."""
    positions: Sequence[Sequence[Any]] = ()
    """Of each pair, the strongest positions of each listed feature."""


def analyses_of(
    batch: Sequence[TokenizedPair], metric: Tensor, scores: Scores, listing: Listing
) -> list[Analysis]:
    """Return one analysis a pair: of its strongest features, or of what is wrong with its numbers.

    Args:
        batch: the pairs.
        metric: m of each pair, (pair,).
        scores: of one SAE, each pair a place.
        listing: of which features, and what else.
    """
    # All features count, not only the listed ones: NaN sorts anywhere.
    finite = torch.isfinite(scores.scores.sum(dim=1) + scores.gradients.sum(dim=1))
    single = [metric, scores.identity_gap, scores.n_active, finite]
    single += [getattr(scores, name) for name in SHARES]
    tables = {
        "score": scores.scores,
        "activation": scores.activations,
        "gradient": scores.gradients,
    }
    wide = {name: table.gather(1, listing.top) for name, table in tables.items()} | listing.columns
    # One copy to the host; float64 holds ids and float32 numbers exactly.
    columns = [*(table[:, None].double() for table in single), listing.top.double()]
    rows = torch.cat([*columns, *(table.double() for table in wide.values())], dim=1).cpu().numpy()
    with np.errstate(over="ignore"):  # beyond float32 is not finite, either
        narrow = rows.astype(np.float32)
    start, k = len(single), listing.top.shape[1]
    finite_columns = [*range(start), *range(start + 4 * k, narrow.shape[1])]
    usable = np.isfinite(narrow[:, finite_columns]).all(axis=1) & (narrow[:, 3] > 0)
    ids = rows[:, start : start + k].astype(int).tolist()
    shortest = short(narrow)
    analyses: list[Analysis] = []
    for index, item in enumerate(batch):
        numbers = shortest[index]
        if not usable[index]:
            details = _not_finite(float(metric[index]), scores, listing.columns, index)
            analyses.append({"error": "Not finite", "details": details})
        elif numbers[1] > IDENTITY_TOLERANCE:
            details = {"gap": numbers[1]}
            analyses.append({"error": "Reconstruction identity violated", "details": details})
        else:
            lists = [numbers[at : at + k] for at in range(start + k, len(numbers), k)]
            by_name = dict(zip(wide, lists, strict=True)) if k else {}
            analysis = _scored(item, numbers, _features(ids[index], by_name))
            analyses.append(_with_more(analysis, listing, index))
    return analyses


def _features(ids: Sequence[int], numbers: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return the listed features of a pair."""
    names = list(numbers)
    return [
        {"id": str(feature), **dict(zip(names, values, strict=True))}
        for feature, *values in zip(ids, *numbers.values(), strict=True)
    ]


def _scored(
    item: TokenizedPair, numbers: list[float], features: list[dict[str, Any]]
) -> dict[str, Any]:
    """Lay out the analysis of one pair: `numbers` begins with those of the pair itself."""
    metric, _, n_active, _, *shares = numbers[: 4 + len(SHARES)]
    whole = float(n_active).is_integer()  # a mean over positions need not be
    sequences = item.contrast.sequences
    if sequences is None:
        told: dict[str, Any] = {"logit_diff": metric}
    else:
        told = {"log_prob_diff": metric, "sequence_tokens": [*map(len, sequences)]}
    return {
        "target_token": item.target_text,
        "base_token": item.base_text,
        "token_position": item.contrast.offset,
        **told,
        "boundary": item.boundary,
        "target_token_id": item.contrast.target_token,
        "base_token_id": item.contrast.base_token,
        "diagnostics": {
            "n_active": int(n_active) if whole else n_active,
            **dict(zip(SHARES, shares, strict=True)),
        },
        "top_features": features,
    }


def _with_more(analysis: dict[str, Any], listing: Listing, index: int) -> Analysis:
    """Add what a method has to tell beyond scores."""
    diagnostics = listing.diagnostics[index] if listing.diagnostics else {}
    fields = listing.fields[index] if listing.fields else {}
    numbers = [*_numbers(diagnostics), *_numbers(fields)]
    unsound = [name for name, value in numbers if not math.isfinite(value)]
    if unsound:
        return {"error": "Not finite", "details": {"where": [*dict.fromkeys(unsound)]}}
    analysis["diagnostics"] |= diagnostics
    if listing.positions:
        of_features = zip(analysis["top_features"], listing.positions[index], strict=True)
        for feature, positions in of_features:
            feature["positions"] = positions
    return analysis | fields


def _numbers(values: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the numbers in nested values, with their names; those of a list share its own."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", number) for inner, number in _numbers(value))
        elif isinstance(value, list):
            yield from ((name, number) for number in value if isinstance(number, float))
        elif isinstance(value, float):
            yield name, value


def shortest(value: float) -> float:
    """Return a float32 number as the one with the fewest digits."""
    with np.errstate(over="ignore"):
        return float(str(np.float32(value)))


def _not_finite(
    metric: float, scores: Scores, columns: dict[str, Tensor], row: int
) -> dict[str, Any]:
    """Say which of the numbers of a pair are NaN or infinite."""
    tables = {
        "activation": scores.activations,
        "gradient": scores.gradients,
        "score": scores.scores,
        **columns,
    }
    where = [name for name, table in tables.items() if not torch.isfinite(table[row]).all()]
    if not np.isfinite(metric):
        where.insert(0, "metric")
    return {"where": where or ["diagnostics"]}


def short(table: np.ndarray[Any, Any]) -> list[list[float]]:
    """Return float32 numbers as those with the fewest digits; what is not finite as None.

    The JSON library writes a float32 so; reading that back takes a tenth of Python's own time.
    """
    text = orjson.dumps(table, option=orjson.OPT_SERIALIZE_NUMPY)
    found: list[list[float]] = orjson.loads(text)
    return found
