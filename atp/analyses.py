"""From scores to the content of `atp_analysis`: JSON values, each of them checked to be finite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
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
    analyses: list[Analysis] = []
    for index, (item, row) in enumerate(zip(batch, rows, strict=True)):
        numbers, listed = row[: len(single)], row[len(single) :].reshape(len(wide), -1)
        if not (np.isfinite(numbers).all() and numbers[3]):
            details = _not_finite(float(metric[index]), scores, index)
            analyses.append({"error": "Not finite", "details": details})
        elif numbers[1] > IDENTITY_TOLERANCE:
            details = {"gap": _short(numbers[1])}
            analyses.append({"error": "Reconstruction identity violated", "details": details})
        else:
            analyses.append(_scored(item, numbers, listed))
    return analyses


def _scored(
    item: Contrasted, numbers: np.ndarray[Any, Any], listed: np.ndarray[Any, Any]
) -> Analysis:
    metric, _, n_active, _, *shares = numbers
    return {
        "target_token": item.target_text,
        "base_token": item.base_text,
        "token_position": item.contrast.offset,
        "logit_diff": _short(metric),
        "boundary": item.boundary,
        "target_token_id": item.contrast.target_token,
        "base_token_id": item.contrast.base_token,
        "diagnostics": {
            "n_active": int(n_active),
            **{name: _short(share) for name, share in zip(SHARES, shares, strict=True)},
        },
        "top_features": [
            {
                "id": str(int(feature)),
                "score": _short(score),
                "activation": _short(activation),
                "gradient": _short(gradient),
            }
            for feature, score, activation, gradient in listed.T
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


def _short(value: np.floating[Any]) -> float:
    """Return the float with the fewest digits that is the same float32."""
    return float(str(np.float32(value)))
