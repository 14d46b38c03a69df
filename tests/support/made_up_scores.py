"""Results with made-up scores, and their table of features computed in plain loops."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from made_up_results import FACTS, result

from atp.dataset.journal import Analysis
from atp.dataset.pairs import PairKey
from atp.dataset.reader import pairs

HASHES = {"a": "d" * 64, "b": "e" * 64}
HOOK = "blocks.1.hook_resid_post"
TEMPLATES = ("I wrote", "I really like", None)
DATASETS = ("poems", "math", None)


def sae(name: str = "a") -> dict[str, Any]:
    """Return how a result describes an SAE."""
    return {"spec": f"sae-{name}", "hook_name": HOOK, "d_sae": 64, "sha256": HASHES[name]}


def source(folder: Path, questions: int = 8, seed: int = 0) -> Path:
    """Write an input whose questions have one to four flagged answers."""
    rng = random.Random(seed)  # noqa: S311  (not for secrets)
    results: list[dict[str, Any]] = []
    for _ in range(questions):
        variations = [{"template_type": "", "prompt": "P", "response": "no"}]
        for _ in range(rng.randint(1, 4)):
            flagged = {"prompt": "P", "response": "yes", "sycophancy_flag": 1}
            template = rng.choice(TEMPLATES)
            variations.append({**({"template_type": template} if template else {}), **flagged})
        dataset = rng.choice(DATASETS)
        results.append({"variations": variations, **({"dataset": dataset} if dataset else {})})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"input-{seed}.json"
    path.write_text(json.dumps({"results": results}))
    return path


def analysis(
    rng: random.Random, *, exact: str = "none", activations: bool = False, features: int = 20
) -> Analysis:
    """Return an analysis of a few of the features; some of its scores and effects are 0."""
    top: list[dict[str, Any]] = []
    share = rng.choice((0.0, 0.5, 1.0)) if exact == "flagged" else 1.0
    for feature in rng.sample(range(features), min(8, features)):
        # The lower features lean to one side; the first is there for the ratio.
        score = round(rng.gauss(0.4 - feature / features, 0.5), 6) if rng.random() < 0.9 else 0.0
        top.append({"id": str(feature), "score": score, "activation": 1.5, "gradient": 0.1})
        top[-1]["relative_size"] = 0.2
        if exact == "none":
            continue
        if rng.random() < share:
            effect = round(rng.gauss(score / 2, 0.3), 6)
            top[-1]["effect"] = effect if rng.random() < 0.9 else 0.0
        top[-1]["ranked_by"] = "effect" if "effect" in top[-1] else "score"
    found: Analysis = {
        "target_token": " да",
        "logit_diff": 0.5,
        "diagnostics": {"n_active": 8, "variance_explained": 0.9},
        "top_features": top,
    }
    if exact != "none":
        removed = sum("effect" in each for each in top)
        numbers = {"features": removed, "flagged": removed, "unchecked": 3, "error_scale": 2.0}
        found["diagnostics"]["exact"] = numbers
    if activations:
        ids = rng.sample(range(features + 5), 9)
        found["prompt_activations"] = {
            "ids": list(map(str, ids)),
            "flagged": [round(rng.random() * 9, 4) for _ in ids],
            "base": [round(rng.random() * 3 * (rng.random() < 0.5), 4) for _ in ids],
        }
    return found


def analyses(path: Path, seed: int = 0, **options: Any) -> dict[PairKey, Analysis]:
    """Return an analysis for each pair of an input; one in eight is skipped or has an error."""
    rng = random.Random(seed)  # noqa: S311
    found: dict[PairKey, Analysis] = {}
    for number, pair in enumerate(pairs(path)):
        found[pair.key] = analysis(rng, **options)
        if number % 8 == 5:
            found[pair.key] = {"skipped": "No differing tokens"} if number % 16 == 5 else ERROR
    return found


ERROR: Analysis = {"error": "OOM", "details": {}}


def made(folder: Path, path: Path, of: str = "a", seed: int = 0, **options: Any) -> Path:
    """Write a result of an input.

    Args:
        folder: where.
        path: the input.
        of: which SAE.
        seed: of the scores.
        options: `found`, the analyses, where they are not to be made up; `changed`, facts that are
            other than usual, and the time at which the run was started; others are of the analyses.
    """
    changed = {"saes": [sae(of)], **options.pop("changed", {})}
    found = options.pop("found", None)
    return result(
        folder, path, analyses(path, seed, **options) if found is None else found, **changed
    )


MODEL: dict[str, Any] = FACTS["model"]

# --- the slow way


def scored(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Return every scored pair of some results: question, groups, analysis."""
    return [
        {
            "question": (content["metadata"]["atp"]["input"]["sha256"], index),
            "template_type": variation.get("template_type"),
            "dataset": question.get("dataset"),
            **variation["atp_analysis"],
        }
        for content in (json.loads(file.read_text(encoding="utf-8")) for file in files)
        for index, question in enumerate(content["results"])
        for variation in question["variations"]
        if "top_features" in variation.get("atp_analysis", {})
    ]


def grouped(rows: list[dict[str, Any]]) -> Iterator[tuple[str, str | None, list[dict[str, Any]]]]:
    """Yield every group of pairs."""
    yield "all", None, rows
    for name in ("template_type", "dataset"):
        for value in {row[name] for row in rows}:
            yield name, value, [row for row in rows if row[name] == value]


def of_pair(row: dict[str, Any], feature: int, what: str) -> float:
    """Return a number of a feature in a pair; 0 where it is not listed.

    Its "best" is the effect if that was measured, else the score.
    """
    for each in row["top_features"]:
        if each["id"] == str(feature):
            if what == "best":
                what = "effect" if "effect" in each else "score"
            return float(each.get(what, 0.0))
    return 0.0


def carrying(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the pairs all of whose listed features carry an effect."""
    return [row for row in rows if all("effect" in each for each in row["top_features"])]


def activation(row: dict[str, Any], feature: int, prompt: str) -> float:
    """Return the activation of a feature on a prompt of a pair."""
    listed = row["prompt_activations"]
    return dict(zip(listed["ids"], listed[prompt], strict=True)).get(str(feature), 0.0)


def expected(rows: list[dict[str, Any]], feature: int, epsilon: float) -> dict[str, Any]:
    """Return what is to be found of a feature over some pairs, resampling aside."""
    scores = [of_pair(row, feature, "score") for row in rows]
    mean = sum(scores) / len(scores)
    others = [score for score in scores if score]
    best = [of_pair(row, feature, "best") for row in rows]
    with_effects = carrying(rows)
    with_activations = [row for row in rows if "prompt_activations" in row]
    effects = [of_pair(row, feature, "effect") for row in with_effects]
    means = {
        prompt: [activation(row, feature, prompt) for row in with_activations]
        for prompt in ("flagged", "base")
    }
    flagged, base = (sum(m) / len(m) if m else None for m in means.values())
    return {
        "pairs": len(rows),
        "questions": len({row["question"] for row in rows}),
        "mean_best": sum(best) / len(best),
        "mean_score": mean,
        "mean_abs_score": sum(map(abs, scores)) / len(scores),
        "sign_consistency": sum(score * mean > 0 for score in others) / len(others)
        if others and mean
        else None,
        "frequency": len(others) / len(scores),
        "nonzero_questions": len(
            {row["question"] for row, score in zip(rows, scores, strict=True) if score}
        ),
        "effect_pairs": len(with_effects),
        "mean_effect": sum(effects) / len(effects) if effects else None,
        "activation_pairs": len(with_activations),
        "mean_activation_flagged": flagged,
        "mean_activation_base": base,
        "log_ratio": None
        if flagged is None or base is None
        else math.log10((flagged + epsilon) / (base + epsilon)),
    }


def occurring(rows: list[dict[str, Any]]) -> set[int]:
    """Return the features that some pair lists with a score or an effect."""
    return {
        int(each["id"])
        for row in rows
        for each in row["top_features"]
        if each["score"] or each.get("effect")
    }


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted as Benjamini and Hochberg (1995) do, step by step."""
    count = len(p_values)
    ranked = sorted(range(count), key=lambda i: p_values[i])
    result = [1.0] * count
    least = 1.0
    for rank in range(count, 0, -1):
        least = min(least, p_values[ranked[rank - 1]] * count / rank)
        result[ranked[rank - 1]] = least
    return result
