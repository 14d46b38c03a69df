"""The contrast: one BOS, the prompt's last token under both boundary rules, nothing cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracle import Oracle
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from atp.attribution.contrasts import Contrast
from atp.errors import SettingsError
from atp.model.language_model import Model
from atp.model.pair_tokenizer import PairIssue, PairTexts, PairTokenizer, TokenizedPair

PROMPT = "Please comment. Argument: birds fly.\nComment:"


@pytest.fixture(scope="module")
def model(loaded: Callable[[str], Model]) -> Model:
    """A model whose tokenizer has a BOS token and a chat template that writes it."""
    return loaded("gpt2")


def pair_tokenizer(model: Any, *, max_tokens: int = 20, chat: bool = False) -> PairTokenizer:
    """Return a PairTokenizer with short option names."""
    return PairTokenizer(model, max_tokens_to_check=max_tokens, chat_template=chat)


def contrasted(found: TokenizedPair | PairIssue) -> TokenizedPair:
    """Return a found contrast, or fail with the reason why there is none."""
    assert isinstance(found, TokenizedPair), found
    return found


def test_the_first_differing_token_gives_the_contrast(model: Model) -> None:
    found = contrasted(
        pair_tokenizer(model)(PROMPT, " The same start, strong", " The same start, weak")
    )
    tokens, tokenizer = found.contrast, model.tokenizer
    text = tokenizer.decode(tokens.tokens[1:])
    assert text.startswith(PROMPT + " The same start,")
    assert found.target_text != found.base_text
    assert tokenizer.decode([tokens.target_token]) == found.target_text
    prompt = tokenizer(PROMPT, add_special_tokens=False).input_ids
    assert list(tokens.tokens[: tokens.prompt_length]) == [model.bos_token_id, *prompt]
    assert tokens.offset == len(tokens.tokens) - tokens.prompt_length + 1
    assert found.boundary == "joint"


@pytest.mark.parametrize("start", ["", "<bos>", "<bos><bos>"])
def test_a_sequence_starts_with_one_bos_whatever_the_prompt_holds(model: Model, start: str) -> None:
    plain = contrasted(pair_tokenizer(model)(PROMPT, " yes", " no"))
    assert (
        contrasted(pair_tokenizer(model)(start + PROMPT, " yes", " no")).contrast == plain.contrast
    )
    assert plain.contrast.tokens.count(model.bos_token_id) == 1


def test_a_chat_template_brings_its_own_bos_and_it_stays_the_only_one(model: Model) -> None:
    found = contrasted(pair_tokenizer(model, chat=True)(PROMPT, "yes", "no"))
    text = model.tokenizer.decode(found.contrast.tokens)
    assert text.startswith(f"<bos><user>{PROMPT}</user>\n<model>\n")
    assert found.contrast.tokens.count(model.bos_token_id) == 1


def test_a_model_without_bos_gets_none(loaded: Callable[[str], Model]) -> None:
    qwen = loaded("qwen2")
    found = contrasted(pair_tokenizer(qwen)(PROMPT, " yes", " no"))
    prompt = qwen.tokenizer(PROMPT, add_special_tokens=False).input_ids
    assert list(found.contrast.tokens[: found.contrast.prompt_length]) == prompt


def test_a_token_across_the_boundary_is_split() -> None:
    r"""The end of "m\n" and the start of "\nI" merge into one token."""
    letters = ["<bos>", "\n", "\n\n", "m", "I", "Y"]
    bpe = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, [("\n", "\n")]))
    merging = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<bos>")
    fake = SimpleNamespace(tokenizer=merging, n_ctx=64, bos_token_id=0, name="merging")
    found = contrasted(pair_tokenizer(fake)("m\n", "\nI", "\nY"))
    assert found.boundary == "split"
    assert found.contrast.tokens == (0, 3, 1, 1)
    assert found.contrast.prompt_length == 3
    assert (found.target_text, found.base_text) == ("I", "Y")
    one_sided = contrasted(pair_tokenizer(fake)("m\n", "I", "\nY"))
    assert one_sided.boundary == "split"  # both answers follow one rule
    assert (one_sided.contrast.target_token, one_sided.contrast.base_token) == (4, 1)


def test_answers_that_do_not_differ_in_time_are_skipped(model: Model) -> None:
    shared = " the argument" * 30
    for target, base in (
        (" same", " same"),
        (shared + " a", shared + " b"),
        (shared, shared + "!"),
    ):
        found = pair_tokenizer(model)(PROMPT, target, base)
        assert isinstance(found, PairIssue)
        assert not found.failed
        assert found.reason == "No differing tokens found in first 20 positions"
    assert isinstance(
        pair_tokenizer(model, max_tokens=80)(PROMPT, shared + " a", shared + " b"), TokenizedPair
    )


def test_an_answer_that_ends_first_gives_nothing_to_compare(model: Model) -> None:
    found = pair_tokenizer(model)(PROMPT, " yes, indeed", " yes")
    assert isinstance(found, PairIssue)
    assert found.details["base_tokens"] < found.details["target_tokens"]


@pytest.mark.parametrize(
    ("target", "base", "which"), [("", " no", "flagged"), (" yes", "", "base")]
)
def test_an_empty_response_is_skipped_and_named(
    model: Model, target: str, base: str, which: str
) -> None:
    found = pair_tokenizer(model)(PROMPT, target, base)
    assert found == PairIssue("Empty response", failed=False, details={"response": which})


def test_a_sequence_beyond_the_context_is_an_error_not_cut(model: Model) -> None:
    found = pair_tokenizer(model)(PROMPT * 40, " yes", " no")
    assert isinstance(found, PairIssue)
    assert found.failed
    assert found.reason == "Sequence too long"
    assert found.details["tokens"] > found.details["context"] == tiny.N_CTX


def test_the_context_may_be_used_to_its_last_token(model: Model) -> None:
    length = len(model.tokenizer(PROMPT, add_special_tokens=False).input_ids) + 1
    fits = SimpleNamespace(**{name: getattr(model, name) for name in ("tokenizer", "name")})
    fits.bos_token_id = model.bos_token_id
    fits.n_ctx = length
    assert isinstance(pair_tokenizer(fits)(PROMPT, " yes", " no"), TokenizedPair)
    fits.n_ctx = length - 1
    assert isinstance(pair_tokenizer(fits)(PROMPT, " yes", " no"), PairIssue)


def test_a_tokenizer_without_chat_template_refuses_the_option() -> None:
    bare = tiny.tokenizer()
    bare.chat_template = None
    fake = SimpleNamespace(tokenizer=bare, name="bare", n_ctx=64)
    with pytest.raises(SettingsError, match="chat template"):
        pair_tokenizer(fake, chat=True)


def test_a_template_that_refuses_a_prompt_fails_that_pair() -> None:
    strict = tiny.tokenizer()
    strict.chat_template = "{{ raise_exception('too rude') }}"
    fake = SimpleNamespace(tokenizer=strict, name="strict", n_ctx=64, bos_token_id=1)
    found = pair_tokenizer(fake, chat=True)(PROMPT, " yes", " no")
    assert isinstance(found, PairIssue)
    assert found.failed
    assert "too rude" in found.details["why"]


@given(
    prompt=st.text(min_size=1, max_size=30), target=st.text(max_size=30), base=st.text(max_size=30)
)
def test_a_contrast_holds_for_any_text(model: Model, prompt: str, target: str, base: str) -> None:
    """The oracle's plain loop finds the same tokens, or none either."""
    oracle = Oracle.__new__(Oracle)  # its tokenizer is all that is needed
    oracle.tokenizer = model.tokenizer
    expected = oracle.first_difference(prompt, target, base) if target and base else None
    found = pair_tokenizer(model)(prompt, target, base)
    if expected is None:
        assert isinstance(found, PairIssue)
        return
    ids, p, o, t, b = expected
    assert contrasted(found).contrast == Contrast(tuple(ids[: p + o]), p + 1, t, b, bos=True)


# --- texts and libraries that nobody expects


def merging(*, bos: bool) -> PreTrainedTokenizerFast:
    r"""Return a tokenizer of bytes that merges whatever it can across any seam: "a" * 8 is one."""
    letters = [f"<0x{byte:02X}>" for byte in range(256)] + ["a", "b", "\n", " "]
    vocabulary = {letter: number for number, letter in enumerate(["<bos>", "<unk>", *letters])}
    merges = []
    for letter in ("a", "b", "\n", " "):
        for length in (1, 2, 4):
            merges.append((letter * length, letter * length))
            vocabulary[letter * 2 * length] = len(vocabulary)
    for pair in (("a", "b"), ("b", "\n"), (" ", "a")):
        merges.append(pair)
        vocabulary["".join(pair)] = len(vocabulary)
    bpe = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>"))
    bpe.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<bos>" if bos else None, unk_token="<unk>"
    )


def composing() -> PreTrainedTokenizerFast:
    """Return a tokenizer that alters the text: NFKC, and several blanks are one."""
    changed = tiny.tokenizer()
    changed.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace("  ", " ")]
    )
    return changed


TOKENIZERS = {
    "byte level": tiny.tokenizer(),
    "byte level, no BOS": tiny.tokenizer(bos=False),
    "merging": merging(bos=True),
    "merging, no BOS": merging(bos=False),
    "composing": composing(),
}
texts = st.one_of(
    st.text(max_size=20),
    st.text("ab\n ", max_size=20),
    st.lists(
        st.sampled_from(
            ["<bos>", "<pad>", "<eos>", "<user>", "</user>", "a", " ", "e\u0301", "👩‍👧"]
        ),
        max_size=6,
    ).map("".join),
)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(deadline=None)
@given(prompt=texts, target=texts, base=texts, most=st.integers(1, 6))
@example(prompt="", target="<bos>0", base="<bos>1", most=2)
def test_any_text_gives_a_contrast_by_the_rules_or_says_why_not(
    name: str, prompt: str, target: str, base: str, most: int
) -> None:
    tokenizer = TOKENIZERS[name]
    bos = tokenizer.bos_token_id
    fake = SimpleNamespace(tokenizer=tokenizer, n_ctx=16, bos_token_id=bos, name=name)

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    head = ids(prompt)
    joint = [ids(prompt + response) for response in (target, base)]
    apart = [head + ids(response) for response in (target, base)]
    is_joint = all(text[: len(head)] == head for text in joint)
    whole = joint if is_joint else apart
    of_bos = next((i for i, token in enumerate(head) if token != bos), len(head))
    start = [] if bos is None else [bos]
    of_prompt = start + head[0 if bos is None else of_bos :]
    answers = [text[len(head) :][:most] for text in whole]
    differing = [i for i, (t, b) in enumerate(zip(*answers, strict=False)) if t != b]

    found = pair_tokenizer(fake, max_tokens=most)(prompt, target, base)

    if not target or not base:
        assert found == PairIssue(
            "Empty response", failed=False, details={"response": "base" if target else "flagged"}
        )
    elif not of_prompt:
        assert isinstance(found, PairIssue)
        assert found.reason == "Empty prompt"
    elif not differing:
        assert isinstance(found, PairIssue)
        assert not found.failed
    else:
        expected = (*of_prompt, *answers[0][: differing[0]])
        if len(expected) > fake.n_ctx:
            assert isinstance(found, PairIssue)
            assert found.reason == "Sequence too long"
            return
        tokens = [answer[differing[0]] for answer in answers]
        assert contrasted(found).contrast == Contrast(
            expected, len(of_prompt), *tokens, bos=bos is not None
        )
        assert contrasted(found).boundary == ("joint" if is_joint else "split")
        assert contrasted(found).target_text == tokenizer.decode([tokens[0]])
        if bos is not None:
            assert expected[0] == bos
            # The prompt has one BOS. A response that begins with another keeps it.
            assert of_prompt[1:2] != [bos]
        if name in {"byte level", "merging"}:
            # The texts come out again: the prompt but for the BOS tokens it began with.
            plain = prompt
            while plain.startswith("<bos>"):
                plain = plain.removeprefix("<bos>")
            assert tokenizer.decode(head[of_bos:]) == plain


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(deadline=None)
@given(pairs=st.lists(st.builds(PairTexts, texts, texts, texts, texts), max_size=6))
def test_several_pairs_give_what_each_gives_alone(name: str, pairs: list[PairTexts]) -> None:
    fake = SimpleNamespace(
        tokenizer=TOKENIZERS[name], n_ctx=16, bos_token_id=TOKENIZERS[name].bos_token_id, name=name
    )
    tokenizer = PairTokenizer(fake, max_tokens_to_check=6, chat_template=False, base_prompts=True)
    one_by_one = replace_encoder(tokenizer, together=False)

    assert list(tokenizer.each(pairs)) == [one_by_one(*pair) for pair in pairs]


def replace_encoder(tokenizer: PairTokenizer, *, together: bool) -> PairTokenizer:
    """Return a copy that encodes texts together, or each by the tokenizer's own `__call__`."""
    changed = copy(tokenizer)
    changed.encoder = copy(tokenizer.encoder)
    changed.encoder.together = together
    return changed


def test_pairs_with_long_texts_are_tokenised_in_groups(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first result comes before the texts of all pairs are in memory."""
    monkeypatch.setattr("atp.model.pair_tokenizer.TOGETHER", 100)
    taken = []

    def pairs() -> Iterator[PairTexts]:
        for number in range(6):
            taken.append(number)
            yield PairTexts(PROMPT, " yes", f" no{number}")

    found = pair_tokenizer(model).each(pairs())
    next(found)
    assert taken == [0, 1]
    assert len(list(found)) == 5


def test_a_text_that_cannot_be_encoded_costs_no_other_pair(model: Model) -> None:
    half = "\ud800"  # of a surrogate pair: no tokenizer takes it
    bad, good = pair_tokenizer(model).each(
        [PairTexts(PROMPT, half, " no"), PairTexts(PROMPT, " yes", " no")]
    )
    assert isinstance(bad, PairIssue)
    assert bad.reason == "Tokenizer failed"
    assert good == pair_tokenizer(model)(PROMPT, " yes", " no")


def test_a_tokenizer_with_a_way_of_its_own_keeps_it() -> None:
    """CodeLlama's cuts a text that holds <FILL_ME>, if it comes alone."""

    class Shouting(PreTrainedTokenizerFast):
        def _encode_plus(self, text: str, *options: Any, **named: Any) -> Any:
            return super()._encode_plus(text.upper(), *options, **named)

    plain = tiny.tokenizer()
    shouting = Shouting(tokenizer_object=plain.backend_tokenizer)
    fakes = [
        SimpleNamespace(tokenizer=each, n_ctx=64, bos_token_id=None, name="own")
        for each in (shouting, plain)
    ]
    found, expected = (
        pair_tokenizer(fake)(*texts)
        for fake, texts in zip(fakes, (("a b", "c", "d"), ("A B", "C", "D")), strict=True)
    )
    assert contrasted(found) == contrasted(expected)


def test_the_merging_tokenizer_does_merge_across_the_seam() -> None:
    fake = SimpleNamespace(tokenizer=merging(bos=True), n_ctx=64, bos_token_id=0, name="merging")
    boundaries = [
        contrasted(pair_tokenizer(fake)("a" * count, "b", "a" * 4)).boundary
        for count in range(1, 9)
    ]
    assert boundaries == ["split"] * 7 + ["joint"]


@pytest.mark.parametrize("fault", [RuntimeError("no\nsuch token"), IndexError(), MemoryError()])
def test_what_a_tokenizer_raises_is_the_fault_of_that_pair(fault: Exception) -> None:
    class Broken:
        chat_template = None

        def get_vocab(self) -> dict[str, int]:
            return {"a": 0}

        def __call__(self, *_: object, **__: object) -> Any:
            raise fault

    fake = SimpleNamespace(tokenizer=Broken(), n_ctx=64, bos_token_id=None, name="broken")
    found = pair_tokenizer(fake)(PROMPT, " yes", " no")
    assert isinstance(found, PairIssue)
    assert (found.reason, found.failed) == ("Tokenizer failed", True)
    assert type(fault).__name__ in found.details["why"]
    assert "\n" not in found.details["why"]


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('x' * 900) }}", "{{ 1 / 0 }}", "{{ messages[7].role }}", "{%"]
)
def test_whatever_a_chat_template_raises_is_the_fault_of_that_pair(template: str) -> None:
    strict = tiny.tokenizer()
    strict.chat_template = template
    fake = SimpleNamespace(tokenizer=strict, name="strict", n_ctx=64, bos_token_id=1)
    found = pair_tokenizer(fake, chat=True)(PROMPT, " yes", " no")
    assert isinstance(found, PairIssue)
    assert (found.reason, found.failed) == ("Chat template failed", True)
    assert 0 < len(found.details["why"]) <= 200


class Counting:
    """A tokenizer that notes how many characters it was given."""

    def __init__(self) -> None:
        self.proper, self.characters = tiny.tokenizer(), 0
        self.chat_template = self.proper.chat_template

    def __getattr__(self, name: str) -> Any:
        """Be the proper one in all else."""
        return getattr(self.proper, name)

    def __call__(self, text: str, **options: Any) -> Any:
        """Tokenise."""
        self.characters += len(text)
        return self.proper(text, **options)


def test_a_prompt_of_megabytes_is_too_long_without_being_tokenised() -> None:
    counting = Counting()
    fake = SimpleNamespace(tokenizer=counting, name="tiny", n_ctx=tiny.N_CTX, bos_token_id=1)
    found = pair_tokenizer(fake)("詩" * 20_000_000, " yes", " no")
    assert found == PairIssue(
        "Sequence too long",
        failed=True,
        details={"characters": 20_000_000, "context": tiny.N_CTX},
    )
    assert counting.characters == 0


def test_of_a_response_of_megabytes_only_the_start_is_tokenised() -> None:
    counting = Counting()
    fake = SimpleNamespace(tokenizer=counting, name="tiny", n_ctx=tiny.N_CTX, bos_token_id=1)
    long = " The argument is strong" * 1_000_000
    found = contrasted(pair_tokenizer(fake)(PROMPT, long, " The argument is weak"))
    short = contrasted(pair_tokenizer(fake)(PROMPT, long[:200], " The argument is weak"))
    assert found == short
    assert counting.characters < 500_000


@pytest.mark.parametrize("base_prompt", ["A neutral prompt:", None, "", "x" * 100_000])
def test_base_prompts_are_tokenised_with_their_pair_where_asked(
    model: Model, base_prompt: str | None
) -> None:
    options = {"max_tokens_to_check": 20, "chat_template": False}
    texts = (PROMPT, " yes", " no")
    plain = contrasted(PairTokenizer(model, **options)(*texts, base_prompt))
    assert plain.base_prompt is None

    found = PairTokenizer(model, base_prompts=True, **options)(*texts, base_prompt)

    expected = pair_tokenizer(model).prompt(base_prompt)
    if isinstance(expected, PairIssue):
        assert found == expected
        assert expected.details["field"] == "base prompt"
    else:
        assert contrasted(found) == replace(plain, base_prompt=expected)
        whole = model.tokenizer(base_prompt, add_special_tokens=False).input_ids
        assert expected == (model.bos_token_id, *whole)


def test_a_pair_without_a_contrast_says_why_before_its_base_prompt(model: Model) -> None:
    options = {"max_tokens_to_check": 20, "chat_template": False, "base_prompts": True}
    found = PairTokenizer(model, **options)(PROMPT, " same", " same", None)
    assert isinstance(found, PairIssue)
    assert not found.failed


def test_the_longest_prompt_that_may_fit_is_tokenised() -> None:
    """A prompt of nothing but the longest token fills the context to its last place."""
    tokenizer = tiny.tokenizer()
    fake = SimpleNamespace(tokenizer=tokenizer, name="tiny", n_ctx=9, bos_token_id=1)
    longest = max(tokenizer.get_vocab(), key=lambda token: (len(token), token))
    prompt = tokenizer.decode([tokenizer.get_vocab()[longest]]) * 8
    found = pair_tokenizer(fake)(prompt, " yes", " no")
    count = len(tokenizer(prompt, add_special_tokens=False).input_ids)
    assert isinstance(found, TokenizedPair) == (count + 1 <= fake.n_ctx)
    assert len(prompt) <= fake.n_ctx * len(longest)
