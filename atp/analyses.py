"""From scores to the content of `atp_analysis`: JSON values, each of them checked to be finite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import torch

from atp.attribution.scores import IDENTITY_TOLERANCE, Scores, top_features

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from atp.dataset.journal import Analysis
    from atp.model.contrast import Contrasted, NotContrasted

SHARES = ("variance_explained", "features", "bias", "sae_error")


def without_contrast(reason: NotContrasted) -> Analysis:
    """Return the analysis of a pair that has no contrast."""
    return {"error" if reason.failed else "skipped": reason.reason, "details": reason.details}


def failed(error: Exception) -> Analysis:
    """Return the analysis of a pair that is left with an exception."""
    message = str(error).splitlines()[0] if str(error) else ""
    return {"error": type(error).__name__, "details": {"message": message}}


def analyses_of(
    batch: Sequence[Contrasted], metric: Tensor, scores: Scores, top_k: int
) -> list[Analysis]:
    """Return one analysis a pair: of its strongest features, or of what is wrong with its numbers.

    Args:
        batch: the pairs.
        metric: m of each pair, (batch,).
        scores: of one SAE.
        top_k: how many features to list, by |score|.
    """
    top = top_features(scores.scores, top_k)  # (batch, k)
    # All features count, not only the listed ones: NaN sorts anywhere.
    finite = torch.isfinite(scores.scores.sum(dim=1) + scores.gradients.sum(dim=1))
    single = [metric, scores.identity_gap, scores.n_active, finite]
    single += [getattr(scores, name) for name in SHARES]
    wide = [top, *(t.gather(1, top) for t in (scores.scores, scores.activations, scores.gradients))]
    # One copy to the host; float64 holds ids and float32 numbers exactly.
    columns = [*(table[:, None].double() for table in single), *(table.double() for table in wide)]
    rows = torch.cat(columns, dim=1).cpu().numpy()
    with np.errstate(over="ignore"):  # beyond float32 is not finite, either
        narrow = rows.astype(np.float32)
    usable = np.isfinite(narrow[:, : len(single)]).all(axis=1) & (narrow[:, 3] > 0)
    ids = rows[:, len(single) :][:, : top.shape[1]].astype(int).tolist()
    short = _short(narrow)
    analyses: list[Analysis] = []
    for index, item in enumerate(batch):
        numbers = short[index]
        if not usable[index]:
            details = _not_finite(float(metric[index]), scores, index)
            analyses.append({"error": "Not finite", "details": details})
        elif numbers[1] > IDENTITY_TOLERANCE:
            details = {"gap": numbers[1]}
            analyses.append({"error": "Reconstruction identity violated", "details": details})
        else:
            analyses.append(_scored(item, list(map(str, ids[index])), numbers))
    return analyses


def _scored(item: Contrasted, ids: list[str], numbers: list[float]) -> Analysis:
    """Lay out the numbers of one pair: single ones, then ids, scores, activations, gradients."""
    k = len(ids)
    metric, _, n_active, _, *shares = numbers[: -4 * k]
    scores, activations, gradients = numbers[-3 * k : -2 * k], numbers[-2 * k : -k], numbers[-k:]
    return {
        "target_token": item.target_text,
        "base_token": item.base_text,
        "token_position": item.contrast.offset,
        "logit_diff": metric,
        "boundary": item.boundary,
        "target_token_id": item.contrast.target_token,
        "base_token_id": item.contrast.base_token,
        "diagnostics": {
            "n_active": int(n_active),
            **dict(zip(SHARES, shares, strict=True)),
        },
        "top_features": [
            {"id": feature, "score": score, "activation": activation, "gradient": gradient}
            for feature, score, activation, gradient in zip(
                ids, scores, activations, gradients, strict=True
            )
        ],
    }


def _not_finite(metric: float, scores: Scores, row: int) -> dict[str, Any]:
    """Say which of the numbers of a pair are NaN or infinite."""
    tables = {
        "activation": scores.activations,
        "gradient": scores.gradients,
        "score": scores.scores,
    }
    where = [name for name, table in tables.items() if not torch.isfinite(table[row]).all()]
    if not np.isfinite(metric):
        where.insert(0, "logit_diff")
    return {"where": where or ["diagnostics"]}


def _short(table: np.ndarray[Any, Any]) -> list[list[float]]:
    """Return float32 numbers as those with the fewest digits; what is not finite as None.

    The JSON library writes a float32 so; reading that back takes a tenth of Python's own time.
    """
    text = orjson.dumps(table, option=orjson.OPT_SERIALIZE_NUMPY)
    found: list[list[float]] = orjson.loads(text)
    return found
