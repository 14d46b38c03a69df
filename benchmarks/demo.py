"""The model, SAE and input of the demo; inputs made of it that are longer or have more pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atp.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "smollm2"
MODEL = ROOT / ".cache" / "models" / "SmolLM2-135M-Instruct"
SAE = EXAMPLE / "sae"
INPUT = EXAMPLE / "feedback.json"
N_LAYERS = 30


def settings(**changes: Any) -> Settings:  # noqa: ANN401  (settings of any type)
    """Return the settings of `make demo` on a CPU, with changes."""
    values: dict[str, Any] = {
        "input": INPUT,
        "out": ROOT / "results" / "bench",
        "model": str(MODEL),
        "sae": (str(SAE),),
        "chat_template": True,
        "device": "cpu",
    }
    return Settings(**{**values, **changes})


def write_longer_responses(path: Path, words: int) -> None:
    """Write the input with every response repeated until it has `words` words.

    Tokens after the first differing one change no score; only the notebook spends time on them.
    """
    content = _content()
    for variation in _variations(content):
        response = variation["response"]
        while len(variation["response"].split()) < words:
            variation["response"] += "\n\n" + response
    path.write_text(json.dumps(content), encoding="utf-8")


def write_copies(path: Path, copies: int) -> None:
    """Write the input's questions `copies` times, with the words of each text in another order.

    Identical prompts would be computed once. These have the same length, and share no more tokens
    than prompts of different questions.
    """
    content = _content()
    once = json.dumps(content["results"])
    content["results"] = []
    for turn in range(copies):
        questions = json.loads(once)
        content["results"] += questions
        for variation in _variations({"results": questions}):
            instruction, newline, text = variation["prompt"].partition("\n")
            words = text.split(" ")
            start = turn % len(words)
            reordered = " ".join(words[start:] + words[:start])
            variation["prompt"] = instruction + newline + reordered
    path.write_text(json.dumps(content), encoding="utf-8")


def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(INPUT.read_text(encoding="utf-8"))
    return content


def _variations(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for question in content["results"]:
        yield from question["variations"]
