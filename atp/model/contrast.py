r"""From texts to a Contrast: which token the sycophantic and the neutral answer differ in first.

    target = prompt + flagged response        base = the same prompt + base response

Two rules guard the position p of the prompt's last token. Joint: each text is tokenised as one
string, as the model that wrote it saw it, while the prompt's own ids are a prefix of both results.
Split: where a tokenizer merges the prompt's end with the response's start ("\n" + "\n\nI"), the
prompt and each response are tokenised apart and their ids are joined.

Any text gives a Contrasted or a NotContrasted: what the tokenizer or its chat template raises is
the fault of that pair alone. Nor does a text of many megabytes cost their tokens: a prompt with
more characters than the context can hold is too long, and of a response only the start counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Protocol

from atp.attribution.batches import Contrast
from atp.errors import SettingsError


class Reader(Protocol):
    """What of a model decides its tokens: a Model has it, and so has what is known without one."""

    @property
    def name(self) -> str:
        """What messages call the model."""

    @property
    def tokenizer(self) -> Any:  # noqa: ANN401  (transformers has no types)
        """The model's own tokenizer."""

    @property
    def n_ctx(self) -> int:
        """The longest sequence it can read, in tokens."""

    @property
    def bos_token_id(self) -> int | None:
        """The token that starts every sequence, if any."""


RESPONSE_MARGIN = 100_000
"""Characters of a response that are read beyond those that the tokens to check can hold: how a text
is cut into tokens may depend on what follows, but not on what follows that far away."""


@dataclass(frozen=True)
class Contrasted:
    """A contrast, and what the result file says of it."""

    contrast: Contrast
    target_text: str
    """The sycophantic token, as text."""
    base_text: str
    """The neutral token, as text."""
    boundary: str
    """"joint" or "split"."""


@dataclass(frozen=True)
class NotContrasted:
    """Why two answers give no contrast."""

    reason: str
    failed: bool
    """True: an error, to be mended. False: a pair without a difference to attribute, skipped."""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Text:
    """A prompt and an answer as token ids."""

    tokens: tuple[int, ...]
    prompt_length: int
    """How many of them are the prompt's."""


class Contraster:
    """Turns texts into contrasts, with one model's tokenizer and rules.

    Args:
        model: whose tokenizer and context length to use; its weights are not needed.
        max_tokens_to_check: how many tokens of the answers to compare.
        chat_template: put prompts through the tokenizer's own chat template.

    Raises:
        SettingsError: a chat template is wanted and the tokenizer has none.
    """

    def __init__(self, model: Reader, *, max_tokens_to_check: int, chat_template: bool) -> None:
        if chat_template and not model.tokenizer.chat_template:
            msg = f"--chat-template: the tokenizer of {model.name} has no chat template."
            raise SettingsError(msg, "Leave the option out, or use an instruction-tuned model.")
        self.tokenizer = model.tokenizer
        self.n_ctx = model.n_ctx
        self.max_tokens = max_tokens_to_check
        self.chat_template = chat_template
        self.bos = model.bos_token_id
        self.longest_token = max(map(len, self.tokenizer.get_vocab()))

    def __call__(
        self, prompt: str, target_response: str, base_response: str
    ) -> Contrasted | NotContrasted:
        """Find the first differing token of two answers to the same prompt."""
        for name, response in (("flagged", target_response), ("base", base_response)):
            if not response:
                return NotContrasted("Empty response", failed=False, details={"response": name})
        try:
            text = self._prompt_text(prompt)
        except Exception as error:  # noqa: BLE001  (a template is a program of the model's author)
            return _fault("Chat template failed", error)
        if len(text) > self.n_ctx * self.longest_token:
            details = {"characters": len(text), "context": self.n_ctx}
            return NotContrasted("Sequence too long", failed=True, details=details)
        end = self.max_tokens * self.longest_token + RESPONSE_MARGIN
        try:
            return self._contrast(*self._tokens(text, target_response[:end], base_response[:end]))
        except Exception as error:  # noqa: BLE001  (the libraries raise what they like)
            return _fault("Tokenizer failed", error)

    def text(self, prompt: str, response: str = "") -> Text | NotContrasted:
        """Return a prompt, with or without an answer, by the rules of contrasts."""
        try:
            text = self._prompt_text(prompt)
        except Exception as error:  # noqa: BLE001  (as in __call__)
            return _fault("Chat template failed", error)
        if len(text) + len(response) > self.n_ctx * self.longest_token:
            details = {"characters": len(text) + len(response), "context": self.n_ctx}
            return NotContrasted("Sequence too long", failed=True, details=details)
        try:
            head, rest, _, _ = self._tokens(text, response, response)
        except Exception as error:  # noqa: BLE001  (as in __call__)
            return _fault("Tokenizer failed", error)
        if not head:
            return NotContrasted("Empty prompt", failed=True, details={"field": "prompt"})
        tokens = (*head, *rest)
        if len(tokens) > self.n_ctx:
            details = {"tokens": len(tokens), "context": self.n_ctx}
            return NotContrasted("Sequence too long", failed=True, details=details)
        return Text(tokens, len(head))

    def _contrast(
        self, head: list[int], target: list[int], base: list[int], boundary: str
    ) -> Contrasted | NotContrasted:
        """Find the first differing token of two answers, from the ids of prompt and answers."""
        if not head:
            return NotContrasted("Empty prompt", failed=True, details={"field": "prompt"})
        ahead = zip_longest(target[: self.max_tokens], base[: self.max_tokens])
        for index, (t, b) in enumerate(ahead):
            if t is None or b is None:
                break  # one answer ends here: no two tokens to compare
            if t != b:
                tokens = (*head, *target[:index])
                if len(tokens) > self.n_ctx:
                    details = {"tokens": len(tokens), "context": self.n_ctx}
                    return NotContrasted("Sequence too long", failed=True, details=details)
                contrast = Contrast(tokens, len(head), t, b)
                texts = (self.tokenizer.decode([t]), self.tokenizer.decode([b]))
                return Contrasted(contrast, *texts, boundary)
        return NotContrasted(
            f"No differing tokens found in first {self.max_tokens} positions",
            failed=False,
            details={"target_tokens": len(target), "base_tokens": len(base)},
        )

    def _prompt_text(self, prompt: str) -> str:
        if not self.chat_template:
            return prompt
        chat = [{"role": "user", "content": prompt}]
        text: str = self.tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True
        )
        return text

    def _tokens(
        self, prompt: str, target: str, base: str
    ) -> tuple[list[int], list[int], list[int], str]:
        """Return the ids of the prompt, of both responses, and which boundary rule held."""
        head = self._encode(prompt)
        joint = [self._encode(prompt + response) for response in (target, base)]
        if all(ids[: len(head)] == head for ids in joint):
            rest = [ids[len(head) :] for ids in joint]
            boundary = "joint"
        else:
            rest = [self._encode(response) for response in (target, base)]
            boundary = "split"
        while head and head[0] == self.bos:  # whatever the text already held
            head = head[1:]
        if self.bos is not None:
            head = [self.bos, *head]
        return head, rest[0], rest[1], boundary

    def _encode(self, text: str) -> list[int]:
        # Never truncated: a sequence that is too long is an error of its pair.
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, truncation=False).input_ids
        return ids


def _fault(reason: str, error: Exception) -> NotContrasted:
    """Return what is left of a pair whose texts a library could not take."""
    why = " ".join(f"{type(error).__name__}: {error}".split())
    return NotContrasted(reason, failed=True, details={"why": why[:200]})
