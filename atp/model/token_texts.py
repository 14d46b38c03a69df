"""The text of each token of a text, as a person reads it.

Joined, they are the text: a token that begins a word has its space, a special token its name.
Bytes that are only a part of a character are written as SentencePiece does: <0xE6><0x97>.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tokenizers.pre_tokenizers import ByteLevel

if TYPE_CHECKING:
    from collections.abc import Iterable

REPLACED = "\N{REPLACEMENT CHARACTER}"
BYTE_COUNT = 256


class TokenTexts:
    """Gives tokens of one tokenizer as texts, each of which is found once."""

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401  (as Transformers gives it)
        self.tokenizer = tokenizer
        # Some decoders strip the space before a text's first token: so each token follows another.
        self.before: list[int] = tokenizer("a", add_special_tokens=False).input_ids
        self.length = len(self._decode(self.before))
        self._known: dict[int, str] = {}

    def __call__(self, ids: Iterable[int]) -> list[str]:
        """Return the text of each token."""
        ids = list(ids)
        for token in set(ids) - self._known.keys():
            self._known[token] = self._text(token)
        return [self._known[token] for token in ids]

    def _text(self, token: int) -> str:
        text = self._decode([*self.before, token])[self.length :]
        if REPLACED not in text:
            return text
        piece = str(self.tokenizer.convert_ids_to_tokens(token))  # it is a part of a character
        return _bytes_as_text(piece) or text

    def _decode(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        return text


def _bytes_as_text(piece: str) -> str | None:
    """Return a piece of the vocabulary as text; None if its bytes are not known."""
    if re.fullmatch("<0x[0-9A-F]{2}>", piece):  # SentencePiece
        return piece
    if not all(letter in BYTES for letter in piece):
        return None
    text = bytes(BYTES[letter] for letter in piece).decode("utf-8", "surrogateescape")
    # A byte that is no part of a whole character has become U+DC00 + its value.
    return re.sub("[\udc80-\udcff]", lambda found: f"<0x{ord(found[0]) - 0xDC00:02X}>", text)


def _bytes_of_letters() -> dict[str, int]:
    """Return the byte that each letter of a byte-level vocabulary stands for (GPT-2's table).

    Printable bytes stand for themselves; U+0100 and on stand for the others, in their order.
    """
    letters = sorted(ByteLevel.alphabet())
    printable = [ord(letter) for letter in letters if ord(letter) < BYTE_COUNT]
    others = (byte for byte in range(BYTE_COUNT) if byte not in printable)
    return dict(zip(letters, (*printable, *others), strict=True))


BYTES = _bytes_of_letters()
