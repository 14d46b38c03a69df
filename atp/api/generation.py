"""`generate`: a model's responses to prompts, as `atp intervene --regenerate` writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from atp.api.loading import as_model
from atp.api.session import bar, library_log
from atp.errors import InputError, SettingsError, UnavailableError
from atp.intervention.regeneration import seed_of
from atp.intervention.runner import batches_of
from atp.model.device_memory import is_out_of_memory
from atp.model.dictionaries.placement import Dictionaries
from atp.model.generation import generate as generate_batch
from atp.model.generation import text_of
from atp.model.halving import in_halves
from atp.model.memory_model import batch_tokens as tokens_that_fit
from atp.model.pair_tokenizer import PairIssue, PairTokenizer, too_long

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from atp.api.loading import AnyModel, AnyTokenizer
    from atp.model.halving import Failure


@dataclass(frozen=True)
class Response:
    """A response to a prompt."""

    text: str  # its leading blank included
    tokens: tuple[int, ...]  # without the end token
    ended: bool  # else it was cut off


def generate(  # noqa: PLR0913  (keywords with defaults)
    model: AnyModel,
    prompts: Iterable[str],
    *,
    tokenizer: AnyTokenizer | None = None,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    seed: int = 0,
    chat_template: bool = False,
    batch_tokens: int | None = None,
    progress: bool = True,
) -> list[Response]:
    """Respond to prompts; inside `ablate`, without the features.

    A response depends on the prompt, its number and the seed, and not on the batch.

    Args:
        model: as for `attribute`.
        prompts: texts.
        tokenizer: of a Hugging Face model.
        max_new_tokens: most tokens of a response.
        temperature: of sampling; 0 is greedy.
        seed: of sampling.
        chat_template: put prompts through the tokenizer's chat template.
        batch_tokens: most tokens in one batch, padding and responses included; by default as many
            as surely fit into the free memory.
        progress: show a bar on a terminal.

    Returns:
        One response for each prompt.

    Raises:
        InputError: a prompt is empty, or too long for the model.
        SettingsError: the model is none that atp can run, or has no chat template.
        UnavailableError: the model cannot be had, or a prompt alone does not fit into memory.

    Example:
        >>> responses = generate("models/tiny", ["Please comment.", "Why?"], max_new_tokens=5)
        >>> [len(response.tokens) for response in responses]
        [5, 5]
    """
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if max_new_tokens < 1 or temperature < 0:
        msg = f"max_new_tokens={max_new_tokens} and temperature={temperature} do not go."
        raise SettingsError(msg, "Give at least 1 token, and a temperature of at least 0.")
    usable = as_model(model, tokenizer)
    rows = _tokenised(
        PairTokenizer(usable, max_tokens_to_check=1, chat_template=chat_template),
        texts,
        usable.n_ctx - max_new_tokens,
    )
    budget = batch_tokens or tokens_that_fit(usable, Dictionaries([], usable.device), None)

    def work(batch: Sequence[int]) -> list[Response]:
        prompts = [rows[i] for i in batch]
        generated = generate_batch(
            usable,
            prompts,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seeds=[seed_of(seed, i) for i in batch],
        )
        return [
            Response(text_of(usable, prompt, response.tokens), response.tokens, response.ended)
            for prompt, response in zip(prompts, generated, strict=True)
        ]

    def too_large(_: Failure, batch: Sequence[int]) -> Response:
        msg = f"prompts[{batch[0]}], of {len(rows[batch[0]]):,} tokens, does not fit into memory."
        raise UnavailableError(msg, "Shorten it, or free memory.")

    responses: dict[int, Response] = {}
    batches = batches_of(range(len(rows)), lambda i: len(rows[i]) + max_new_tokens, budget)
    with library_log(), bar(len(rows), shown=progress) as line:
        for batch in batches:
            found = in_halves(usable, work, batch, too_large, is_fault=is_out_of_memory)
            responses |= zip(batch, found, strict=True)
            line.advance(len(batch))
    return [responses[i] for i in range(len(rows))]


def _tokenised(
    tokenizer: PairTokenizer, texts: Sequence[str], longest: int
) -> list[tuple[int, ...]]:
    rows = []
    for number, text in enumerate(texts):
        found = tokenizer.text(text)
        if not isinstance(found, PairIssue) and len(found.tokens) > longest:
            found = too_long(len(found.tokens), longest)
        if isinstance(found, PairIssue):
            details = ", ".join(f"{name} {value}" for name, value in found.details.items())
            msg = f"prompts[{number}]: {found.reason} ({details})."
            raise InputError(msg, "Mend that prompt, or leave it out.")
        rows.append(found.tokens)
    return rows
