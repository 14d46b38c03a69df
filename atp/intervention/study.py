"""The teacher-forced part of an intervention: how ablations change the metric of every pair.

The selected features are taken out, then random ones, then the most negative ones. The side effects
of each ablation are measured on the base responses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from atp.errors import UnavailableError
from atp.intervention import metric_changes
from atp.intervention.feature_sets import draw_controls
from atp.runtime.live import phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.attribution.contrasts import Contrast
    from atp.dataset.pairs import PairKey
    from atp.intervention.ablate import FeatureSet
    from atp.intervention.feature_sets import Sets
    from atp.intervention.metric_changes import Floats
    from atp.intervention.runner import AblationRunner
    from atp.intervention.texts import Texts

MAX_CONTROLS_WITH_SIDE_EFFECTS = 3  # each takes a pass over every base response

log = structlog.get_logger()


def study(
    runner: AblationRunner, sets: Sets, texts: Texts, controls: int, seed: int
) -> dict[str, Any]:
    """Measure, and return `summary` and `pairs` of the report; `controls` random sets are drawn."""
    contrasts = [pair.contrast for pair in texts.pairs.values()]

    def metrics_without(what: str, features: Sequence[FeatureSet] = ()) -> Floats:
        with phase(f"measuring every pair, removed: {what}"), runner.without(features):
            metrics = runner.metrics(contrasts)
        log.info("intervene.measured", what=what, pairs=int(np.isfinite(metrics).sum()))
        return metrics

    before = metrics_without("nothing")
    selected = metrics_without("selected", sets.selected)
    negative = [metrics_without("negative", sets.negative)] if sets.negative else []
    control_sets, mean_activation = _controls(runner, sets.selected, contrasts, controls, seed)
    random = [
        metrics_without(f"control {number} of {len(control_sets)}", control)
        for number, control in enumerate(control_sets, 1)
    ]
    metrics = np.stack([before, selected, *random, *negative])  # (set, pair)
    measured = np.isfinite(metrics).all(axis=0)
    if not measured.any():
        msg = "no pair could be measured: each lacks memory, or its metric is not finite."
        raise UnavailableError(msg, "Lower --batch-tokens, or give it more memory.")

    side_effects = _side_effects(runner, sets, control_sets, texts)
    questions = np.array([key.question for key in texts.pairs])[measured]
    before, selected = metrics[:2, measured]
    without_controls = metrics[2 : 2 + len(random), measured]
    without_negative = metrics[2 + len(random) :, measured]  # (0 or 1, pair)
    issues = texts.pair_issues.values()
    summary: dict[str, Any] = {
        "pairs": int(measured.sum()),
        "questions": len(np.unique(questions)),
        "skipped": sum("skipped" in issue for issue in issues),
        "errors": sum("error" in issue for issue in issues) + int((~measured).sum()),
        "features": sum(len(features.ids) for features in sets.selected),
        "mean_before": float(before.mean()),
        "selected": {
            **metric_changes.summary(before, selected[None], questions, seed),
            "side_effects": side_effects["selected"],
        },
        "random": None,
        "negative": None,
    }
    if random:
        summary["random"] = {
            **metric_changes.against_controls(before, selected, without_controls, questions, seed),
            "mean_activation": mean_activation,
            "features": [
                [list(map(str, features.ids)) for features in control] for control in control_sets
            ],
            "side_effects": side_effects["random"],
        }
    if negative:
        changes = selected - before, without_negative - before
        summary["negative"] = {
            **metric_changes.summary(before, without_negative, questions, seed),
            **metric_changes.against(*changes, questions, seed),
            "side_effects": side_effects["negative"],
        }
    summary["verdict"] = metric_changes.verdict(summary["selected"], summary["random"])
    return {"summary": summary, "pairs": _pairs(texts, metrics, len(random))}


def _controls(
    runner: AblationRunner,
    selected: Sequence[FeatureSet],
    contrasts: Sequence[Contrast],
    count: int,
    seed: int,
) -> tuple[list[tuple[FeatureSet, ...]], dict[str, Any]]:
    """Return random sets of features, and how active they are beside the selected ones."""
    if not count:
        return [], {}
    means = runner.mean_activations([features.dictionary for features in selected], contrasts)
    controls = draw_controls(selected, means, count, seed)
    if not controls:
        wanted = sum(len(features.ids) for features in selected)
        log.warning("intervene.no_controls", features=wanted)
        return [], {}

    def total(sets: Sequence[FeatureSet]) -> float:
        pairs = zip(sets, means, strict=True)
        return float(sum(of_sae[list(features.ids)].sum() for features, of_sae in pairs))

    return controls, {"selected": total(selected), "random": list(map(total, controls))}


def _side_effects(
    runner: AblationRunner, sets: Sets, controls: Sequence[Sequence[FeatureSet]], texts: Texts
) -> dict[str, dict[str, Any] | None]:
    """Return the side effects of each ablation on the base responses."""
    ablations = [sets.selected, sets.negative, *controls[:MAX_CONTROLS_WITH_SIDE_EFFECTS]]
    effects = runner.side_effects(list(texts.base_responses.values()), ablations)
    log.info("intervene.side_effects", texts=effects[0].texts, tokens=effects[0].tokens)
    selected, negative, *of_controls = [effect.as_json() for effect in effects]
    finite = [effect for effect in of_controls if effect is not None]
    random = None
    if finite:
        names = ("kl_per_token", "perplexity_before", "perplexity_after")
        means = {name: float(np.mean([effect[name] for effect in finite])) for name in names}
        random = {**means, "of_sets": finite}
    return {"selected": selected, "negative": negative, "random": random}


def _pairs(texts: Texts, metrics: Floats, controls: int) -> list[dict[str, Any]]:
    """Return the numbers of each pair, or why it has none, in input order.

    The metrics, (set, pair), are before, without the selected features, without each control set,
    and without the negative features (0 or 1 set).
    """
    entries: dict[PairKey, dict[str, Any]] = dict(texts.pair_issues)
    for (key, pair), of_pair in zip(texts.pairs.items(), metrics.T, strict=True):
        if not np.isfinite(of_pair).all():
            details = {"reason": "no memory for it, or a metric that is not finite"}
            entries[key] = {"error": "Not measured", "details": details}
            continue
        before, after, *others = of_pair.tolist()
        random, negative = others[:controls], others[controls:]
        entries[key] = {
            "target_token": pair.target_text,
            "base_token": pair.base_text,
            "token_position": pair.contrast.offset,
            "before": before,
            "after": after,
            "change": after - before,
            "flips": (before > 0) != (after > 0),
            "after_random": float(np.mean(random)) if random else None,
            "after_negative": negative[0] if negative else None,
        }
    return [{"pair": str(key), **entries[key]} for key in sorted(entries)]
