"""Token texts: joined they are the text, whatever the tokenizer does with spaces and bytes."""

from __future__ import annotations

import re

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from atp.model.token_texts import TokenTexts


def joined(texts: list[str]) -> str:
    """Return a text from the texts of its tokens; what is written as bytes becomes bytes."""
    parts = re.split("<0x([0-9A-F]{2})>", "".join(texts))
    as_bytes = [bytes.fromhex(part) if i % 2 else part.encode() for i, part in enumerate(parts)]
    return b"".join(as_bytes).decode()


@pytest.fixture(scope="module")
def byte_level() -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are bytes."""
    return tiny.tokenizer()


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"), max_size=40))
def test_the_texts_of_all_tokens_are_the_text(
    byte_level: PreTrainedTokenizerFast, text: str
) -> None:
    ids = byte_level(text).input_ids
    found = TokenTexts(byte_level)(ids)
    assert len(found) == len(ids)
    assert joined(found) == text


def test_special_tokens_and_parts_of_characters_can_be_read(
    byte_level: PreTrainedTokenizerFast,
) -> None:
    ids = byte_level("<bos> the\n🦉\N{REPLACEMENT CHARACTER}").input_ids
    found = TokenTexts(byte_level)(ids)
    assert found[0] == "<bos>"
    assert "".join(found[1:]) == " the\n<0xF0><0x9F><0xA6><0x89><0xEF><0xBF><0xBD>"


def test_a_tokenizer_that_strips_the_first_space_gives_it_back() -> None:
    words = ["<s>", "a", "▁a", "▁the", "the", "<0xE6>", "<0x97>", "<0xA5>", "<0x0A>"]
    bpe = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [], byte_fallback=True))
    as_llama = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    bpe.decoder = decoders.Sequence([*as_llama, decoders.Strip(" ", 1, 0)])
    llama = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>")
    ids = llama.convert_tokens_to_ids(words)
    assert llama.decode([3]) == "the"
    expected = ["<s>", "a", " a", " the", "the", "<0xE6>", "<0x97>", "<0xA5>", "\n"]
    assert TokenTexts(llama)(ids) == expected
