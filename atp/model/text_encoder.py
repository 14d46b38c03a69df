"""TextEncoder: the token ids of texts; of several together where the tokenizer has a way for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import PreTrainedTokenizerFast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

METHODS = "__call__", "_encode_plus"
"""Methods in which a tokenizer of Transformers may treat a text in a way of its own."""


class TextEncoder:
    """Gives the token ids of texts, without special tokens but those that a text spells out."""

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401  (as Transformers gives it)
        self.tokenizer = tokenizer
        kind = type(tokenizer)
        self.together = isinstance(tokenizer, PreTrainedTokenizerFast) and all(
            getattr(kind, name) is getattr(PreTrainedTokenizerFast, name) for name in METHODS
        )

    def __call__(self, text: str) -> list[int]:
        """Return the ids of a text; raises whatever the tokenizer raises."""
        # Never truncated: a sequence that is too long is an error of its pair.
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, truncation=False).input_ids
        return ids

    def ahead(self, texts: Sequence[str]) -> Callable[[str], list[int]]:
        """Encode texts on all cores; return a function that does as `__call__`, at once for these.

        If one of them raises an error, they are encoded one by one, each when its turn comes.
        """
        known: dict[str, list[int]] = {}
        if self.together and texts:
            try:
                self(texts[0])  # sets the tokenizer to cut nothing and to pad nothing
                backend = self.tokenizer.backend_tokenizer
                found = backend.encode_batch_fast(texts, add_special_tokens=False)
                known = {text: each.ids for text, each in zip(texts, found, strict=True)}
            except Exception:  # noqa: BLE001  (the libraries raise what they like)
                known = {}

        def encode(text: str) -> list[int]:
            ids = known.get(text)
            return self(text) if ids is None else ids

        return encode
