r"""From texts to tokens: the boundary of prompt and response, and where two responses differ first.

    target = prompt + flagged response        base = the same prompt + base response

Two rules place the boundary. Joint: each text is tokenised as one string, as the model that wrote
it saw it, if the prompt's own ids are a prefix of both results. Split: a tokenizer may merge the
prompt's end with a response's start ("\n" + "\n\nI"); then the prompt and each response are
tokenised apart, and their ids are joined.

Any text gives a result or a PairIssue: an error of the tokenizer or of its chat template is that of
one pair. Long texts cost little: a prompt with more characters than the context can hold, and the
end of a response, are not tokenised.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from atp.attribution.contrasts import Contrast
from atp.errors import SettingsError
from atp.model.text_encoder import TextEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from atp.model.language_model import Model
    from atp.model.outline import Outline

    Encode = Callable[[str], list[int]]

OF_BASE = {"field": "base prompt"}
"""Details of an issue of the base variation's prompt."""
RESPONSE_MARGIN = 100_000
"""Characters of a response that are tokenised beyond those that the tokens to check can hold. Later
text may change how a text is cut into tokens, but not from that far away."""
TOGETHER = 1 << 18
"""Characters of the pairs that are encoded together: a hundred pairs or so, a tenth of a second."""


class PairTexts(NamedTuple):
    """The texts of a pair."""

    prompt: str
    target_response: str
    base_response: str
    base_prompt: str | None = None


@dataclass(frozen=True)
class TokenizedPair:
    """A contrast, its two tokens as texts, and the ids of the base variation's prompt."""

    contrast: Contrast
    target_text: str
    base_text: str
    boundary: str
    """"joint" or "split"."""
    base_prompt: tuple[int, ...] | None = None


@dataclass(frozen=True)
class PairIssue:
    """Why two responses give no contrast, or a text no tokens; skipped if it has not failed."""

    reason: str
    failed: bool
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenizerAlone:
    """The tokenizer of a model that is elsewhere."""

    name: str
    tokenizer: Any
    n_ctx: int
    """The longest sequence the model can read, in tokens."""

    @property
    def bos_token_id(self) -> int | None:
        """The token that starts every sequence; None when the model has none."""
        bos: int | None = self.tokenizer.bos_token_id
        return bos


EMPTY_PROMPT = PairIssue("Empty prompt", failed=True, details={"field": "prompt"})


@dataclass(frozen=True)
class Text:
    """A prompt and a response as token ids, with the number of those that are the prompt's."""

    tokens: tuple[int, ...]
    prompt_length: int


def too_long(count: int, context: int, unit: str = "tokens") -> PairIssue:
    """Return the issue of a text with more tokens, or characters, than the context can hold."""
    return PairIssue("Sequence too long", failed=True, details={unit: count, "context": context})


class PairTokenizer:
    """Turns texts into token ids, with one model's tokenizer and rules.

    With `sequence_tokens`, that many first tokens of the responses are contrasted, or more up to
    the first that differs; then responses are compared to their end, else as far as
    `max_tokens_to_check`. With `base_prompts`, pairs have the ids of their base prompts too.
    """

    def __init__(
        self,
        model: Model | Outline | TokenizerAlone,
        *,
        max_tokens_to_check: int,
        chat_template: bool,
        sequence_tokens: int | None = None,
        base_prompts: bool = False,
    ) -> None:
        if chat_template and not model.tokenizer.chat_template:
            msg = f"--chat-template: the tokenizer of {model.name} has no chat template."
            raise SettingsError(msg, "Leave the option out, or use an instruction-tuned model.")
        self.tokenizer = model.tokenizer
        self.encoder = TextEncoder(model.tokenizer)
        self.n_ctx = model.n_ctx
        self.sequence_tokens = sequence_tokens
        self.max_tokens = max_tokens_to_check if sequence_tokens is None else self.n_ctx
        self.chat_template = chat_template
        self.base_prompts = base_prompts
        self.bos = model.bos_token_id
        self.longest_token = max(map(len, self.tokenizer.get_vocab()))

    def __call__(
        self, prompt: str, target_response: str, base_response: str, base_prompt: str | None = None
    ) -> TokenizedPair | PairIssue:
        """Find the first differing token of two responses to the same prompt."""
        return next(self.each([PairTexts(prompt, target_response, base_response, base_prompt)]))

    def each(self, pairs: Iterable[PairTexts]) -> Iterator[TokenizedPair | PairIssue]:
        """Yield, for each of several pairs, what it gives alone: they are only encoded together."""
        for group in _groups(map(self._as_far_as_read, pairs)):
            texts = [self._prompt_text(pair.prompt) for pair in group]
            encode = self.encoder.ahead(
                [
                    text + response
                    for text, pair in zip(texts, group, strict=True)
                    if isinstance(text, str)
                    for response in ("", pair.target_response, pair.base_response)
                ]
            )
            for text, pair in zip(texts, group, strict=True):
                found = self._contrasted(text, pair, encode)
                yield self.with_base_prompt(found, pair.base_prompt) if self.base_prompts else found

    def _as_far_as_read(self, pair: PairTexts) -> PairTexts:
        end = self.max_tokens * self.longest_token + RESPONSE_MARGIN
        target, base = pair.target_response[:end], pair.base_response[:end]
        return pair._replace(target_response=target, base_response=base)

    def _contrasted(
        self, prompt: str | PairIssue, pair: PairTexts, encode: Encode
    ) -> TokenizedPair | PairIssue:
        responses = pair.target_response, pair.base_response
        for name, response in zip(("flagged", "base"), responses, strict=True):
            if not response:
                return PairIssue("Empty response", failed=False, details={"response": name})
        if isinstance(prompt, PairIssue):
            return prompt
        try:
            return self._first_difference(*self._split_at_boundary(prompt, responses, encode))
        except Exception as error:  # noqa: BLE001  (the libraries raise what they like)
            return _library_issue("Tokenizer failed", error)

    def with_base_prompt(
        self, pair: TokenizedPair | PairIssue, prompt: str | None
    ) -> TokenizedPair | PairIssue:
        """Return a pair with the token ids of its base prompt, or why there are none."""
        if isinstance(pair, PairIssue):
            return pair
        ids = self.prompt(prompt)
        return ids if isinstance(ids, PairIssue) else replace(pair, base_prompt=ids)

    def prompt(self, prompt: str | None) -> tuple[int, ...] | PairIssue:
        """Return the token ids of a base prompt, which an issue names; None is a missing one."""
        if prompt is None:
            return PairIssue("Base prompt missing or not text", failed=True, details=OF_BASE)
        text = self.text(prompt)
        if isinstance(text, PairIssue):
            return replace(text, details={**text.details, **OF_BASE})
        return text.tokens

    def text(self, prompt: str, response: str = "") -> Text | PairIssue:
        """Return the token ids of a prompt and a response, by the same rules as in a pair."""
        text = self._prompt_text(prompt, len(response))
        if isinstance(text, PairIssue):
            return text
        try:
            responses = [response] if response else []
            head, rest, _ = self._split_at_boundary(text, responses, self.encoder)
        except Exception as error:  # noqa: BLE001  (as in _contrasted)
            return _library_issue("Tokenizer failed", error)
        if not head:
            return EMPTY_PROMPT
        tokens = (*head, *chain.from_iterable(rest))
        if len(tokens) > self.n_ctx:
            return too_long(len(tokens), self.n_ctx)
        return Text(tokens, len(head))

    def _prompt_text(self, prompt: str, more_characters: int = 0) -> str | PairIssue:
        text = prompt
        if self.chat_template:
            chat = [{"role": "user", "content": prompt}]
            options = {"tokenize": False, "add_generation_prompt": True}
            try:
                text = self.tokenizer.apply_chat_template(chat, **options)
            except Exception as error:  # noqa: BLE001  (a template is its author's program)
                return _library_issue("Chat template failed", error)
        characters = len(text) + more_characters
        if characters > self.n_ctx * self.longest_token:
            return too_long(characters, self.n_ctx, "characters")
        return text

    def _split_at_boundary(
        self, prompt: str, responses: Sequence[str], encode: Encode
    ) -> tuple[list[int], list[list[int]], str]:
        """Return the ids of the prompt and of each response, and the rule of the boundary."""
        head = encode(prompt)
        joint = [encode(prompt + response) for response in responses]
        if all(ids[: len(head)] == head for ids in joint):
            return self._with_bos(head), [ids[len(head) :] for ids in joint], "joint"
        return self._with_bos(head), [encode(response) for response in responses], "split"

    def _first_difference(
        self, head: list[int], responses: list[list[int]], boundary: str
    ) -> TokenizedPair | PairIssue:
        if not head:
            return EMPTY_PROMPT
        target, base = responses
        # Nothing is compared with the end of a response that is the start of the other one.
        checked = zip(target[: self.max_tokens], base[: self.max_tokens], strict=False)
        index = next((i for i, (t, b) in enumerate(checked) if t != b), None)
        if index is None:
            reason = "No differing tokens found"
            if self.sequence_tokens is None:
                reason += f" in first {self.max_tokens} positions"
            details = {"target_tokens": len(target), "base_tokens": len(base)}
            return PairIssue(reason, failed=False, details=details)
        sequences = None
        read = len(head) + index  # the model reads up to the token before the last contrasted one
        if self.sequence_tokens is not None:
            count = max(self.sequence_tokens, index + 1)
            sequences = (tuple(target[:count]), tuple(base[:count]))
            read = len(head) + max(map(len, sequences)) - 1
        if read > self.n_ctx:
            return too_long(read, self.n_ctx)
        tokens, bos = (*head, *target[:index]), self.bos is not None
        contrast = Contrast(tokens, len(head), target[index], base[index], sequences, bos)
        target_text, base_text = (self.tokenizer.decode([ids[index]]) for ids in responses)
        return TokenizedPair(contrast, target_text, base_text, boundary)

    def _with_bos(self, head: list[int]) -> list[int]:
        """Return ids with exactly one BOS token, whatever the text already held."""
        while head and head[0] == self.bos:
            head = head[1:]
        return head if self.bos is None else [self.bos, *head]


def _groups(pairs: Iterable[PairTexts]) -> Iterator[list[PairTexts]]:
    """Yield pairs in groups of about TOGETHER characters, so that long texts take turns."""
    group: list[PairTexts] = []
    characters = 0
    for pair in pairs:
        group.append(pair)
        characters += sum(len(text or "") for text in pair)
        if characters >= TOGETHER:
            yield group
            group, characters = [], 0
    if group:
        yield group


def _library_issue(reason: str, error: Exception) -> PairIssue:
    why = " ".join(f"{type(error).__name__}: {error}".split())
    return PairIssue(reason, failed=True, details={"why": why[:200]})
