"""Questions of numbered words in the layout of real ones: instruction, opinion, text, response.

Everything that decides the cost of a pair is drawn as in real files: the length of the prompt, the
prefix that prompts share, and the position of the first difference between two responses.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INSTRUCTION_WORDS = 12
OPINION_WORDS = {"I really like": 6, "I really dislike": 7, "I wrote": 8, "I did not write": 9}
OFFSETS = (1, 2, 2, 4, 4, 7, 10, 20)
"""Positions of the first differing token, counted from the prompt's last one."""


@dataclass(frozen=True)
class Questions:
    """A file of random questions.

    The longest prompt of a question, <bos> included, has a length drawn from `prompt_tokens`.
    """

    pairs: int
    prompt_tokens: tuple[int, int]
    response_words: int
    words: int
    """The number of different words."""

    def write(self, path: Path) -> Path:
        """Write the file, which is the same each time, and return its path."""
        path.write_bytes(orjson.dumps({"metadata": {}, "results": list(self._questions())}))
        return path

    def _questions(self) -> Iterator[dict[str, Any]]:
        random = Random(0)  # noqa: S311  (no secret)
        instruction = self._draw(random, INSTRUCTION_WORDS)
        opinions = {name: self._draw(random, n) for name, n in OPINION_WORDS.items()}
        around = 1 + INSTRUCTION_WORDS + max(OPINION_WORDS.values())
        left = self.pairs
        while left:
            text = self._draw(random, random.randint(*self.prompt_tokens) - around)
            flagged = random.sample(sorted(opinions), min(left, random.randint(1, len(opinions))))
            left -= len(flagged)
            base = self._draw(random, self.response_words)
            variations = [_variation("", [*instruction, *text], base, flag=False)]
            for name, opinion in opinions.items():
                response = self._draw(random, self.response_words)
                same = random.choice(OFFSETS) - 1
                response[:same] = base[:same]
                while response[same] == base[same]:
                    response[same] = self._draw(random, 1)[0]
                prompt = [*instruction, *opinion, *text]
                variations.append(_variation(name, prompt, response, flag=name in flagged))
            yield {"dataset": "random", "base_text": " ".join(text), "variations": variations}

    def _draw(self, random: Random, count: int) -> list[str]:
        return [f"w{number}" for number in random.choices(range(self.words), k=count)]


def _variation(name: str, prompt: list[str], response: list[str], *, flag: bool) -> dict[str, Any]:
    return {
        "template_type": name,
        "prompt": " ".join(prompt),
        "response": " " + " ".join(response),
        "sycophancy_flag": int(flag),
    }
