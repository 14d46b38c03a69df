"""A result of thousands of pairs: analyses like those of a small real run, with new texts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import orjson

SEED = 17
OUTCOMES = ("scored", "skipped", "error")
SHARES = (0.96, 0.03, 0.01)
TEMPLATES = ("I really like", "I really dislike", "I wrote", "I did not write")
DATASETS = ("arguments", "poems", "math")
WITHOUT_SCORES = {
    "skipped": {"skipped": "No differing tokens found in first 20 positions"},
    "error": {"error": "Sequence too long", "details": {"tokens": 9000, "context": 8192}},
}
LETTERS = {"prompt": 1700, "response": 900, "base": 900}
"""Of a text, on average. Each pair has a question of its own, so that no text occurs twice."""

Numbers = np.ndarray[Any, np.dtype[np.float32]]


class Words:
    """English-like text: 20,000 words with the frequencies of a language; gzip takes 60% off."""

    def __init__(self, rng: np.random.Generator) -> None:
        onsets = ["b", "c", "d", "f", "g", "h", "l", "m", "n", "p", "r", "s", "t", "th", "st", ""]
        rhymes = ["a", "e", "i", "o", "u", "ea", "en", "er", "in", "on", "al", "ing", "ed", "ow"]
        syllables = [onset + rhyme for onset in onsets for rhyme in rhymes]
        words = rng.choice(syllables, (60_000, 3))
        lengths = rng.choice([1, 2, 3], len(words), p=[0.3, 0.5, 0.2])
        made = ["".join(word[:length]) for word, length in zip(words, lengths, strict=True)]
        self._words = np.array(list(dict.fromkeys(made))[:20_000])
        self._shares = 1 / (np.arange(len(self._words)) + 3)
        self._shares /= self._shares.sum()
        self._rng = rng

    def texts(self, count: int, letters: int) -> list[str]:
        """Return texts of about as many letters each, in sentences."""
        mean = float((np.char.str_len(self._words) * self._shares).sum()) + 1.2
        words = self._rng.choice(self._words, (count, round(letters / mean)), p=self._shares)
        return [self._sentences(row.tolist()) for row in words]

    def _sentences(self, words: list[str]) -> str:
        parts, start = [], 0
        for length in self._rng.integers(6, 24, len(words) // 6 + 1).tolist():
            if part := words[start : start + length]:
                parts.append(" ".join(part).capitalize() + ".")
            start += length
        return " ".join(parts)


def write(path: Path, small: Path, pairs: int = 7_000, features: int = 50) -> Path:
    """Write a result like `small`, whose pairs have effects and the activations of the prompts."""
    rng = np.random.default_rng(SEED)
    content = orjson.loads(small.read_bytes())
    like = next(
        variation["atp_analysis"]
        for question in content["results"]
        for variation in question["variations"]
        if "top_features" in variation.get("atp_analysis", {})
    )
    words = Words(rng)
    texts = [words.texts(pairs, letters) for letters in LETTERS.values()]
    outcomes = rng.choice(OUTCOMES, pairs, p=SHARES).tolist()
    metadata = content["metadata"]["atp"]
    found = {outcome: outcomes.count(outcome) for outcome in OUTCOMES}
    metadata["counts"] |= {"questions": pairs, "pairs": pairs, **found}
    metadata["sae"]["d_sae"] = 16_384
    shares = 1 / (np.arange(16_384) + 20) ** 2
    weights = np.log(shares / shares.sum())
    questions = []
    for number, (outcome, prompt, response, base) in enumerate(zip(outcomes, *texts, strict=True)):
        scored = outcome == "scored"
        analysis = _analysis(rng, like, weights, features) if scored else WITHOUT_SCORES[outcome]
        template = TEMPLATES[number % len(TEMPLATES)]
        flagged = {"template_type": template, "prompt": f"{template}. {prompt}"}
        flagged |= {"response": response, "sycophancy_flag": 1, "atp_analysis": analysis}
        neutral = {"template_type": "", "prompt": prompt, "response": base, "sycophancy_flag": 0}
        dataset = DATASETS[number % len(DATASETS)]
        questions.append(
            {"question_id": number, "dataset": dataset, "variations": [neutral, flagged]}
        )
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_INDENT_2
    path.write_bytes(orjson.dumps({**content, "results": questions}, option=options))
    return path


def _analysis(
    rng: np.random.Generator, like: dict[str, Any], weights: Numbers, features: int
) -> dict[str, Any]:
    """Return an analysis with the fields of `like`: a feature has a leaning of its own."""
    active = features + 30
    drawn = np.argpartition(weights + rng.gumbel(size=len(weights)), -active)[-active:]
    leaning = np.sin(drawn * 1.7)
    activations = rng.gamma(2, 6, active).astype(np.float32)
    gradients = (rng.normal(leaning, 1.5, active) * 2e-3).astype(np.float32)
    scores = activations * gradients
    sizes = (activations / activations.sum() * 4).astype(np.float32)
    effects = (scores * rng.normal(1, sizes, active)).astype(np.float32)
    exact = sizes > 0.15
    rank = np.argsort(-np.abs(np.where(exact, effects, scores)))[:features]
    top = [
        {
            "id": str(drawn[i]),
            "score": scores[i],
            "activation": activations[i],
            "gradient": gradients[i],
            "relative_size": sizes[i],
            **({"effect": effects[i]} if exact[i] else {}),
            "ranked_by": "effect" if exact[i] else "score",
        }
        for i in rank
    ]
    order = np.argsort(drawn)
    base = np.where(rng.random(active) < 0.3, 0, activations * rng.gamma(2, 0.5, active))
    prompts = {
        "ids": drawn[order].astype(str).tolist(),
        "flagged": activations[order],
        "base": base[order].astype(np.float32),
    }
    varied: dict[str, Any] = _varied(rng, like["diagnostics"])
    varied["variance_explained"] = np.float32(rng.beta(8, 2))
    numbers = {"logit_diff": np.float32(rng.normal()), "diagnostics": varied}
    shared = {name: like[name] for name in like if name != "prompt_tokens"}
    return {**shared, **numbers, "top_features": top, "prompt_activations": prompts}


def _varied(rng: np.random.Generator, value: Any) -> Any:
    """Return JSON with every fraction in it changed."""
    if isinstance(value, dict):
        return {key: _varied(rng, each) for key, each in value.items()}
    if isinstance(value, float) and math.isfinite(value):
        return np.float32(value * rng.lognormal())
    return value
