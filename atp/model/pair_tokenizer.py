r"""From texts to a Contrast: which token the sycophantic and the neutral answer differ in first.

    target = prompt + flagged response        base = the same prompt + base response

Two rules guard the position p of the prompt's last token. Joint: each text is tokenised as one
string, as the model that wrote it saw it, while the prompt's own ids are a prefix of both results.
Split: where a tokenizer merges the prompt's end with the response's start ("\n" + "\n\nI"), the
prompt and each response are tokenised apart and their ids are joined.

The answers are contrasted by these two tokens or, as sequences, by their first tokens: at least up
to the one that differs, however late.

Any text gives a TokenizedPair or a PairIssue: what the tokenizer or its chat template raises is
the fault of that pair alone. Nor does a text of many megabytes cost their tokens: a prompt with
more characters than the context can hold is too long, and of a response only the start counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, Protocol

from atp.attribution.contrasts import Contrast
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


OF_BASE = {"field": "base prompt"}
"""What the details say of a fault of the base variation's prompt."""
RESPONSE_MARGIN = 100_000
"""Characters of a response that are read beyond those that the tokens to check can hold: how a text
is cut into tokens may depend on what follows, but not on what follows that far away."""


@dataclass(frozen=True)
class TokenizedPair:
    """A contrast, and what the result file says of it."""

    contrast: Contrast
    target_text: str
    """The sycophantic token, as text."""
    base_text: str
    """The neutral token, as text."""
    boundary: str
    """"joint" or "split"."""
    base_prompt: tuple[int, ...] | None = None
    """The token ids of the base variation's prompt, where it matters."""


@dataclass(frozen=True)
class PairIssue:
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


class PairTokenizer:
    """Turns texts into contrasts, with one model's tokenizer and rules.

    Args:
        model: whose tokenizer and context length to use; its weights are not needed.
        max_tokens_to_check: how many tokens of the answers to compare.
        chat_template: put prompts through the tokenizer's own chat template.
        sequence_tokens: contrast that many first tokens of the answers, and not only the first that
            differ; then answers are compared to their end.

    Raises:
        SettingsError: a chat template is wanted and the tokenizer has none.
    """

    def __init__(
        self,
        model: Reader,
        *,
        max_tokens_to_check: int,
        chat_template: bool,
        sequence_tokens: int | None = None,
        base_prompts: bool = False,
    ) -> None:
        self.base_prompts = base_prompts
        if chat_template and not model.tokenizer.chat_template:
            msg = f"--chat-template: the tokenizer of {model.name} has no chat template."
            raise SettingsError(msg, "Leave the option out, or use an instruction-tuned model.")
        self.tokenizer = model.tokenizer
        self.n_ctx = model.n_ctx
        self.sequence_tokens = sequence_tokens
        self.max_tokens = max_tokens_to_check if sequence_tokens is None else self.n_ctx
        self.chat_template = chat_template
        self.bos = model.bos_token_id
        self.longest_token = max(map(len, self.tokenizer.get_vocab()))

    def __call__(
        self,
        prompt: str,
        target_response: str,
        base_response: str,
        base_prompt: str | None = None,
    ) -> TokenizedPair | PairIssue:
        """Tokenise a pair, with its base prompt where these are asked for."""
        pair = self._pair(prompt, target_response, base_response)
        return self.with_base_prompt(pair, base_prompt) if self.base_prompts else pair

    def _pair(
        self, prompt: str, target_response: str, base_response: str
    ) -> TokenizedPair | PairIssue:
        """Find the first differing token of two answers to the same prompt."""
        for name, response in (("flagged", target_response), ("base", base_response)):
            if not response:
                return PairIssue("Empty response", failed=False, details={"response": name})
        text = self._text(prompt)
        if isinstance(text, PairIssue):
            return text
        end = self.max_tokens * self.longest_token + RESPONSE_MARGIN
        try:
            return self._contrast(*self._tokens(text, target_response[:end], base_response[:end]))
        except Exception as error:  # noqa: BLE001  (the libraries raise what they like)
            return _fault("Tokenizer failed", error)

    def with_base_prompt(
        self, found: TokenizedPair | PairIssue, prompt: str | None
    ) -> TokenizedPair | PairIssue:
        """Return a contrast with the token ids of its base prompt, or why there is none."""
        if isinstance(found, PairIssue):
            return found
        ids = self.prompt(prompt)
        return ids if isinstance(ids, PairIssue) else replace(found, base_prompt=ids)

    def prompt(self, prompt: str | None) -> tuple[int, ...] | PairIssue:
        """Return the token ids of a base prompt, or why it cannot be read; None: there is none.

        The reason says that it is the base prompt's: one would look at the flagged one first.
        """
        if prompt is None:
            reason = "Base prompt missing or not text"
            return PairIssue(reason, failed=True, details=OF_BASE)
        found = self._prompt(prompt)
        if isinstance(found, PairIssue):
            return replace(found, details={**found.details, **OF_BASE})
        return found

    def _prompt(self, prompt: str) -> tuple[int, ...] | PairIssue:
        text = self._text(prompt)
        if isinstance(text, PairIssue):
            return text
        try:
            ids = self._with_bos(self._encode(text))
        except Exception as error:  # noqa: BLE001  (as above)
            return _fault("Tokenizer failed", error)
        if not ids:
            return PairIssue("Empty prompt", failed=True)
        return self._too_long(len(ids)) or tuple(ids)

    def _text(self, prompt: str) -> str | PairIssue:
        """Return the text that a prompt stands in."""
        try:
            text = self._prompt_text(prompt)
        except Exception as error:  # noqa: BLE001  (a template is a program of the model's author)
            return _fault("Chat template failed", error)
        if len(text) > self.n_ctx * self.longest_token:
            details = {"characters": len(text), "context": self.n_ctx}
            return PairIssue("Sequence too long", failed=True, details=details)
        return text

    def _too_long(self, tokens: int) -> PairIssue | None:
        if tokens <= self.n_ctx:
            return None
        details = {"tokens": tokens, "context": self.n_ctx}
        return PairIssue("Sequence too long", failed=True, details=details)

    def text(self, prompt: str, response: str = "") -> Text | PairIssue:
        """Return a prompt, with or without an answer, by the rules of contrasts."""
        try:
            text = self._prompt_text(prompt)
        except Exception as error:  # noqa: BLE001  (as in __call__)
            return _fault("Chat template failed", error)
        if len(text) + len(response) > self.n_ctx * self.longest_token:
            details = {"characters": len(text) + len(response), "context": self.n_ctx}
            return PairIssue("Sequence too long", failed=True, details=details)
        try:
            head, rest, _, _ = self._tokens(text, response, response)
        except Exception as error:  # noqa: BLE001  (as in __call__)
            return _fault("Tokenizer failed", error)
        if not head:
            return PairIssue("Empty prompt", failed=True, details={"field": "prompt"})
        tokens = (*head, *rest)
        if len(tokens) > self.n_ctx:
            details = {"tokens": len(tokens), "context": self.n_ctx}
            return PairIssue("Sequence too long", failed=True, details=details)
        return Text(tokens, len(head))

    def _contrast(
        self, head: list[int], target: list[int], base: list[int], boundary: str
    ) -> TokenizedPair | PairIssue:
        """Find the first differing token of two answers, from the ids of prompt and answers."""
        if not head:
            return PairIssue("Empty prompt", failed=True, details={"field": "prompt"})
        ahead = zip_longest(target[: self.max_tokens], base[: self.max_tokens])
        for index, (t, b) in enumerate(ahead):
            if t is None or b is None:
                break  # one answer ends here: no two tokens to compare
            if t != b:
                return self._found(head, (target, base), index, boundary)
        return PairIssue(
            self._no_difference(),
            failed=False,
            details={"target_tokens": len(target), "base_tokens": len(base)},
        )

    def _found(
        self, head: list[int], answers: tuple[list[int], list[int]], index: int, boundary: str
    ) -> TokenizedPair | PairIssue:
        """Return the contrast of two answers, the first difference being at `index`."""
        target, base = answers
        sequences = None
        longest = index
        if self.sequence_tokens is not None:
            count = max(self.sequence_tokens, index + 1)
            sequences = (tuple(target[:count]), tuple(base[:count]))
            longest = max(map(len, sequences)) - 1
        if too_long := self._too_long(len(head) + longest):
            return too_long
        tokens, bos = (*head, *target[:index]), self.bos is not None
        contrast = Contrast(tokens, len(head), target[index], base[index], sequences, bos)
        texts = (self.tokenizer.decode([target[index]]), self.tokenizer.decode([base[index]]))
        return TokenizedPair(contrast, *texts, boundary)

    def _no_difference(self) -> str:
        if self.sequence_tokens is not None:
            return "No differing tokens found"
        return f"No differing tokens found in first {self.max_tokens} positions"

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
        return self._with_bos(head), rest[0], rest[1], boundary

    def _with_bos(self, head: list[int]) -> list[int]:
        while head and head[0] == self.bos:  # whatever the text already held
            head = head[1:]
        return head if self.bos is None else [self.bos, *head]

    def _encode(self, text: str) -> list[int]:
        # Never truncated: a sequence that is too long is an error of its pair.
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, truncation=False).input_ids
        return ids


def _fault(reason: str, error: Exception) -> PairIssue:
    """Return what is left of a pair whose texts a library could not take."""
    why = " ".join(f"{type(error).__name__}: {error}".split())
    return PairIssue(reason, failed=True, details={"why": why[:200]})
