"""The teacher-forced part: the metric of every pair, and what ablations change of it.

The selected features are taken out, then random ones, then the most negative ones; and what each
does to the base answers is measured beside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from atp.errors import SettingsError, UnavailableError
from atp.intervention import metric_changes
from atp.intervention.ablate import FeatureSet
from atp.intervention.controls import matched
from atp.intervention.intervals import Bootstrap

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from atp.dataset.pairs import PairKey
    from atp.intervention.features_file import FeaturesFile
    from atp.intervention.runner import AblationRunner, SideEffects
    from atp.intervention.texts import Texts
    from atp.model.dictionaries.loading import Dictionary
    from atp.model.language_model import Model

    Floats = NDArray[np.float64]

CONTROLS_ON_ANSWERS = 3
"""Control sets whose side effects are measured: a pass over every base answer for each."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Sets:
    """Features of a features file, with the SAEs they belong to."""

    selected: tuple[FeatureSet, ...]
    negative: tuple[FeatureSet, ...]


def sets_of(selection: FeaturesFile, model: Model, dictionaries: Iterable[Dictionary]) -> Sets:
    """Bring a features file and what is loaded together.

    Raises:
        SettingsError: they are not of the same model, or not of the same SAEs.
    """
    path = selection.path
    for name, ours in {"name": model.name, **model.origin}.items():
        theirs = selection.model.get(name)
        if theirs is not None and theirs != ours:
            msg = f"{path} is of the model {selection.model['name']} ({name} {theirs}), "
            msg += f"--model of {model.name} ({name} {ours})."
            raise SettingsError(msg, "Name the model that the features were selected on.")
    left = list(dictionaries)
    selected, negative = [], []
    for chosen in selection.saes:
        wanted = (chosen.sae.get("sha256"), chosen.sae.get("hook_name"))
        same = [each for each in left if (each.origin.get("sha256"), each.hook_name) == wanted]
        if not same:
            there = ", ".join(each.spec for each in left) or "none"
            msg = f"{path} has features of {chosen.spec} on {wanted[1]} (sha256 {wanted[0]}); "
            msg += f"no --sae is that one: {there}."
            raise SettingsError(msg, "Name the SAEs that the features were selected from.")
        left.remove(same[0])
        selected.append(FeatureSet(same[0], chosen.selected))
        if chosen.negative:
            negative.append(FeatureSet(same[0], chosen.negative))
    if left:
        msg = f"{path} has no selected feature of --sae={left[0].spec}."
        raise SettingsError(msg, "Leave that SAE out, or select features of it.")
    return Sets(tuple(selected), tuple(negative))


@dataclass
class InterventionStudy:
    """What is measured."""

    trial: AblationRunner
    sets: Sets
    texts: Texts
    controls: int
    seed: int

    def report(self) -> dict[str, Any]:
        """Measure, and return `summary` and `pairs` of the report.

        Raises:
            UnavailableError: no pair can be measured.
        """
        keys = list(self.texts.contrasts)
        before = self._metrics("nothing")
        targeted = self._metrics("selected", self.sets.selected)
        negative = self._metrics("negative", self.sets.negative) if self.sets.negative else None
        control_sets, activity = self._control_sets()
        random = [
            self._metrics(f"control {i + 1} of {len(control_sets)}", each)
            for i, each in enumerate(control_sets)
        ]
        rows = [before, targeted, *random, *([] if negative is None else [negative])]
        good = metric_changes.finite(rows)
        if not good.any():
            msg = "no pair could be measured: each lacks memory, or its metric is not finite."
            raise UnavailableError(msg, "Lower --batch-tokens, or give it more memory.")
        places = np.array([key.question for key in keys])[good]
        bootstrap = Bootstrap(places, self.seed)
        was, now = before[good], targeted[good]
        on_answers = self._on_answers(control_sets)
        found: dict[str, Any] = {
            "pairs": int(good.sum()),
            "questions": bootstrap.clusters,
            "skipped": sum("skipped" in each for each in self.texts.without.values()),
            "errors": sum("error" in each for each in self.texts.without.values())
            + int((~good).sum()),
            "features": sum(len(each.ids) for each in self.sets.selected),
            "mean_before": float(was.mean()),
            "selected": {
                **metric_changes.summary(was, now[None], bootstrap),
                "side_effects": on_answers["selected"],
            },
            "random": None,
            "negative": None,
        }
        if random:
            drawn = np.stack(random)[:, good]
            found["random"] = {
                **metric_changes.against_controls(was, now, drawn, bootstrap),
                "mean_activation": activity,
                "features": [_ids(each) for each in control_sets],
                "side_effects": on_answers["random"],
            }
        if negative is not None:
            others = negative[good][None]
            found["negative"] = {
                **metric_changes.summary(was, others, bootstrap),
                **metric_changes.against(was, now, others, bootstrap),
                "side_effects": on_answers["negative"],
            }
        found["verdict"] = metric_changes.verdict(found["selected"], found["random"])
        return {"summary": found, "pairs": self._pairs(keys, before, targeted, random, negative)}

    def _metrics(self, what: str, sets: Sequence[FeatureSet] = ()) -> Floats:
        contrasts = [item.contrast for item in self.texts.contrasts.values()]
        with self.trial.without(sets):
            metrics = self.trial.metrics(contrasts)
        log.info("intervene.measured", what=what, pairs=int(np.isfinite(metrics).sum()))
        return metrics

    def _control_sets(self) -> tuple[list[tuple[FeatureSet, ...]], dict[str, Any]]:
        """Return random sets of features, and how active they are next to the selected ones."""
        if not self.controls:
            return [], {}
        chosen = self.sets.selected
        contrasts = [item.contrast for item in self.texts.contrasts.values()]
        means = self.trial.mean_activations([each.dictionary for each in chosen], contrasts)
        generator = np.random.default_rng(self.seed)
        drawn: list[tuple[FeatureSet, ...]] = []
        for _ in range(self.controls):
            found = [
                (each, matched(of_sae, each.ids, generator))
                for each, of_sae in zip(chosen, means, strict=True)
            ]
            if any(ids is None for _, ids in found):
                log.warning("intervene.no_controls", features=sum(len(e.ids) for e in chosen))
                return [], {}
            drawn.append(tuple(FeatureSet(e.dictionary, ids) for e, ids in found if ids))

        def total(sets: Sequence[FeatureSet]) -> float:
            pairs = zip(sets, means, strict=True)
            return float(sum(of_sae[list(each.ids)].sum() for each, of_sae in pairs))

        sums = [total(each) for each in drawn]
        return drawn, {"selected": total(chosen), "random": sums}

    def _on_answers(
        self, control_sets: Sequence[Sequence[FeatureSet]]
    ) -> dict[str, dict[str, Any] | None]:
        """Return the side effects of each ablation on the base answers."""
        some = list(control_sets[:CONTROLS_ON_ANSWERS])
        each = [self.sets.selected, self.sets.negative, *some]
        found = self.trial.side_effects(list(self.texts.base_answers.values()), each)
        log.info("intervene.side_effects", texts=found[0].texts, tokens=found[0].tokens)
        told = [_told(item) for item in found]
        random = [item for item in told[2:] if item is not None]
        return {
            "selected": told[0],
            "negative": told[1],
            "random": {
                **{
                    name: float(np.mean([item[name] for item in random]))
                    for name in ("kl_per_token", "perplexity_before", "perplexity_after")
                },
                "of_sets": random,
            }
            if random
            else None,
        }

    def _pairs(
        self,
        keys: Sequence[PairKey],
        before: Floats,
        targeted: Floats,
        random: Sequence[Floats],
        negative: Floats | None,
    ) -> list[dict[str, Any]]:
        """Return the numbers of each pair, in input order; what has none says why."""
        found: dict[PairKey, dict[str, Any]] = dict(self.texts.without)
        for i, key in enumerate(keys):
            columns = [before[i], targeted[i], *(row[i] for row in random)]
            columns += [] if negative is None else [negative[i]]
            if not np.isfinite(columns).all():
                details = {"reason": "no memory for it, or a metric that is not finite"}
                found[key] = {"error": "Not measured", "details": details}
                continue
            contrast = self.texts.contrasts[key]
            found[key] = {
                "target_token": contrast.target_text,
                "base_token": contrast.base_text,
                "token_position": contrast.contrast.offset,
                "before": float(before[i]),
                "after": float(targeted[i]),
                "change": float(targeted[i] - before[i]),
                "flips": bool((before[i] > 0) != (targeted[i] > 0)),
                "after_random": float(np.mean([row[i] for row in random])) if random else None,
                "after_negative": None if negative is None else float(negative[i]),
            }
        return [{"pair": str(key), **found[key]} for key in sorted(found)]


def _ids(sets: Sequence[FeatureSet]) -> list[list[str]]:
    return [[str(i) for i in each.ids] for each in sets]


def _told(item: SideEffects) -> dict[str, Any] | None:
    """Return side effects as a report says them; None where there is no answer to look at."""
    if item.tokens == 0 or not math.isfinite(item.kl + item.nll_before + item.nll_after):
        return None
    return {
        "texts": item.texts,
        "tokens": item.tokens,
        "kl_per_token": item.kl / item.tokens,
        "perplexity_before": math.exp(item.nll_before / item.tokens),
        "perplexity_after": math.exp(item.nll_after / item.tokens),
    }
