"""Batches of contrasts -> one analysis for each pair and SAE: the content of `atp_analysis`.

The pipeline and a notebook both come through here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from atp.attribution.batches import Batch, plan
from atp.attribution.capture import HookError, capture, prove
from atp.attribution.scores import IDENTITY_TOLERANCE, Scores, score, top_features
from atp.errors import SettingsError, UnavailableError
from atp.model.contrast import Contrasted, Contraster, NotContrasted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from atp.dataset.journal import Analysis
    from atp.model.dictionaries import Dictionary
    from atp.model.loading import Model


def attribute(  # noqa: PLR0913  (keywords with defaults)
    model: Model,
    sae: Dictionary,
    answers: Iterable[tuple[str, str, str]],
    *,
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
        top_k: how many features to list, by |score|.
        max_tokens_to_check: how many tokens of the answers to compare.
        chat_template: put prompts through the tokenizer's chat template.
        batch_tokens: most tokens in one pass, padding included.

    Returns:
        One analysis a pair, as the result file has it in `atp_analysis`.

    Raises:
        SettingsError: the SAE does not belong to the model.
    """
    check_dictionaries(model, [sae])
    contraster = Contraster(
        model, max_tokens_to_check=max_tokens_to_check, chat_template=chat_template
    )
    found = [contraster(*texts) for texts in answers]
    analyses = [without_contrast(item) if isinstance(item, NotContrasted) else {} for item in found]
    places = [i for i, item in enumerate(found) if isinstance(item, Contrasted)]
    contrasted = [item for item in found if isinstance(item, Contrasted)]
    for indices in plan([item.contrast for item in contrasted], batch_tokens):
        members = [contrasted[i] for i in indices]
        for i, (analysis,) in zip(indices, analyse(model, [sae], members, top_k), strict=True):
            analyses[places[i]] = analysis
    return analyses


def check_dictionaries(model: Model, dictionaries: Sequence[Dictionary]) -> None:
    """Try everything once on a short probe: the pass in two parts, each hook point, each SAE.

    Raises:
        SettingsError: an SAE does not fit the model; says which and why.
        UnavailableError: the model cannot be run in two parts, prefix and tail.
    """
    for dictionary in dictionaries:
        model.check_hook(dictionary.hook_name)
        if dictionary.sae.W_dec.device != model.device:
            msg = f"the SAE {dictionary.spec} is on {dictionary.sae.device}, the model is not."
            raise SettingsError(msg, f"Load it with device={str(model.device)!r}.")
    try:
        found = prove(model, _hook_names(dictionaries))
    except HookError as error:
        msg = f"the model {model.name} cannot be read: {error}."
        raise SettingsError(msg, "Choose SAEs of another hook point.") from error
    except Exception as error:  # the libraries raise what they like
        msg = f"the model {model.name} cannot be run as prefix and tail: {error}"
        hint = "atp needs attention over a key-value cache; state-space models have none."
        raise UnavailableError(msg.splitlines()[0], hint) from error
    for dictionary in dictionaries:
        x, g = found.residuals[dictionary.hook_name], found.gradients[dictionary.hook_name]
        d_in = int(dictionary.sae.cfg.d_in)
        reason = f"gives {x[0].numel()} numbers, the SAE reads {d_in} (d_in)"
        if x[0].numel() == d_in:
            try:
                score(dictionary.sae, dictionary.view(x), dictionary.view(g))
                continue
            except (RuntimeError, ValueError, IndexError) as error:
                reason = f"gives what the SAE cannot encode: {str(error).splitlines()[0]}"
        msg = f"--sae={dictionary.spec} does not fit {model.name}: {dictionary.hook_name} {reason}."
        raise SettingsError(msg, "Choose an SAE that was trained on this model.")


def _hook_names(dictionaries: Sequence[Dictionary]) -> list[str]:
    """Return each hook point once, in the order of the SAEs."""
    return list(dict.fromkeys(dictionary.hook_name for dictionary in dictionaries))


def analyse(
    model: Model, dictionaries: Sequence[Dictionary], batch: Sequence[Contrasted], top_k: int
) -> list[list[Analysis]]:
    """Run one batch and score it with every SAE.

    Returns:
        For each pair, one analysis for each SAE. A number that is not finite makes an error of
        that pair and SAE alone.
    """
    tensors = Batch.of([item.contrast for item in batch], model.device)
    found = capture(model, tensors, _hook_names(dictionaries))
    by_dictionary = []
    for dictionary in dictionaries:
        name = dictionary.hook_name
        x, g = dictionary.view(found.residuals[name]), dictionary.view(found.gradients[name])
        scores = score(dictionary.sae, x, g)
        by_dictionary.append(_analyses(batch, found.metric, scores, top_k))
    return [list(of_pair) for of_pair in zip(*by_dictionary, strict=True)]


def without_contrast(reason: NotContrasted) -> Analysis:
    """Return the analysis of a pair that has no contrast."""
    return {"error" if reason.failed else "skipped": reason.reason, "details": reason.details}


def _analyses(
    batch: Sequence[Contrasted], metric: Tensor, scores: Scores, top_k: int
) -> list[Analysis]:
    top = top_features(scores.scores, top_k)  # (batch, k)
    listed = [
        table.gather(1, top) for table in (scores.scores, scores.activations, scores.gradients)
    ]
    # Each row is copied to the host once, in a few tensors.
    ids, metrics = top.cpu().numpy(), metric.float().cpu().numpy()
    columns = [table.cpu().numpy() for table in listed]
    # All features count, not only the listed ones: NaN sorts anywhere.
    finite = torch.isfinite(scores.scores.sum(dim=1) + scores.gradients.sum(dim=1)).cpu().numpy()
    n_active = scores.n_active.cpu().numpy()
    shares = {
        name: getattr(scores, name).cpu().numpy()
        for name in ("variance_explained", "features", "bias", "sae_error")
    }
    gaps = scores.identity_gap.cpu().numpy()
    analyses: list[Analysis] = []
    for row, item in enumerate(batch):
        values = [metrics[row], gaps[row], *(share[row] for share in shares.values())]
        if not (finite[row] and np.isfinite(values).all()):
            analyses.append({"error": "Not finite", "details": _not_finite(row, metrics, scores)})
            continue
        if gaps[row] > IDENTITY_TOLERANCE:
            details = {"gap": _short(gaps[row])}
            analyses.append({"error": "Reconstruction identity violated", "details": details})
            continue
        analyses.append(
            {
                "target_token": item.target_text,
                "base_token": item.base_text,
                "token_position": item.contrast.offset,
                "logit_diff": _short(metrics[row]),
                "boundary": item.boundary,
                "target_token_id": item.contrast.target_token,
                "base_token_id": item.contrast.base_token,
                "diagnostics": {
                    "n_active": int(n_active[row]),
                    **{name: _short(share[row]) for name, share in shares.items()},
                },
                "top_features": [
                    {
                        "id": str(ids[row, rank]),
                        "score": _short(columns[0][row, rank]),
                        "activation": _short(columns[1][row, rank]),
                        "gradient": _short(columns[2][row, rank]),
                    }
                    for rank in range(ids.shape[1])
                ],
            }
        )
    return analyses


def _not_finite(row: int, metrics: np.ndarray[Any, Any], scores: Scores) -> dict[str, Any]:
    """Say which of the numbers of a pair are NaN or infinite."""
    tables = {
        "activation": scores.activations,
        "gradient": scores.gradients,
        "score": scores.scores,
    }
    where = [name for name, table in tables.items() if not torch.isfinite(table[row]).all()]
    if not np.isfinite(metrics[row]):
        where.insert(0, "logit_diff")
    return {"where": where or ["diagnostics"]}


def _short(value: np.floating[Any]) -> float:
    """Return the float with the fewest digits that is the same float32."""
    return float(str(np.float32(value)))
