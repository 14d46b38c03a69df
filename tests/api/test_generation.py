"""`generate` writes what the model writes, in any batch, and says which prompt is at fault."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tiny
import torch

from atp import ablate, generate
from atp.errors import InputError, SettingsError, UnavailableError
from atp.model.generation import generate as generate_batch
from atp.model.language_model import Model
from atp.model.pair_tokenizer import PairTokenizer, Text

Loaded = Callable[[str], Model]
PROMPTS = [prompt for prompt, _, _ in tiny.triples(2)]
FEATURES = tuple(range(0, tiny.D_SAE, 3))


def test_responses_are_those_of_single_passes_in_any_batch(loaded: Loaded) -> None:
    model = loaded("llama")
    tokenizer = PairTokenizer(model, max_tokens_to_check=1, chat_template=False)
    texts = [tokenizer.text(prompt) for prompt in PROMPTS]
    rows = [text.tokens for text in texts if isinstance(text, Text)]
    expected = [generate_batch(model, [row], max_new_tokens=6)[0].tokens for row in rows]

    for budget in (None, 1, 500):
        found = generate(model, PROMPTS, max_new_tokens=6, batch_tokens=budget)
        assert [response.tokens for response in found] == expected
        assert all(model.tokenizer.decode(response.tokens) for response in found)


def test_samples_have_their_seed(loaded: Loaded) -> None:
    def sampled(seed: int, budget: int | None = None) -> list[str]:
        options = {"max_new_tokens": 6, "temperature": 2.0, "batch_tokens": budget}
        found = generate(loaded("llama"), ["Why?"] * 3, seed=seed, **options)  # type: ignore[arg-type]
        return [response.text for response in found]

    assert sampled(1) == sampled(1, budget=1)
    assert sampled(1) != sampled(2)
    assert len(set(sampled(1))) > 1


def test_inside_ablate_it_runs_without_the_features(loaded: Loaded) -> None:
    model, sae = loaded("llama"), tiny.make_sae("standard")
    before = generate(model, PROMPTS, max_new_tokens=6)
    with ablate(model, sae, FEATURES):
        without = generate(model, PROMPTS, max_new_tokens=6)

    assert without != before
    assert generate(model, PROMPTS, max_new_tokens=6) == before


def test_a_batch_that_does_not_fit_is_halved_and_one_prompt_is_an_error(loaded: Loaded) -> None:
    model = loaded("llama")
    before = generate(model, PROMPTS, max_new_tokens=4)
    most = 3

    def no_memory(_module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > most:
            raise torch.OutOfMemoryError

    handle = model.bridge.original_model.get_input_embeddings().register_forward_pre_hook(no_memory)
    try:
        assert generate(model, PROMPTS, max_new_tokens=4) == before
        most = 0
        with pytest.raises(UnavailableError, match=r"prompts\[\d\], of \d+ tokens, does not fit"):
            generate(model, PROMPTS, max_new_tokens=4)
    finally:
        handle.remove()


def test_a_prompt_at_fault_is_named(loaded: Loaded) -> None:
    model = loaded("qwen2")  # no BOS token: an empty prompt has no token at all
    with pytest.raises(InputError, match=r"prompts\[1\]: Empty prompt"):
        generate(model, ["Why?", ""])
    with pytest.raises(InputError, match=r"prompts\[0\]: Sequence too long \(tokens \d+, context"):
        generate(model, ["Why? " * 60], max_new_tokens=200)
    with pytest.raises(SettingsError, match="at least 1 token"):
        generate(model, ["Why?"], max_new_tokens=0)
    assert generate(model, []) == []
