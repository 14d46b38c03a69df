"""Base prompts: the activations on them, for comparison with the flagged prompts.

The base prompts of a window are planned together, whichever pairs are left to score, and each batch
of them is run when the first of its pairs is: so the activations on a prompt do not depend on which
pairs were scored before, or by which shard.
"""

from __future__ import annotations

from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

import torch

from atp.attribution.batches import plan
from atp.attribution.prompts import as_contrast, read_prompts
from atp.config.settings import WINDOW_PAIRS
from atp.errors import UnavailableError
from atp.model.halving import in_halves
from atp.scoring.dictionary_scorer import activations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from atp.model.dictionaries.placement import Dictionaries
    from atp.model.language_model import Model

    Prompt = tuple[int, ...]  # token ids


def plan_base_prompts(
    prompts: Iterable[Prompt | None], batch_tokens: int, *, whole: bool
) -> dict[Prompt, list[Prompt]]:
    """Plan the base prompts of a window; return by prompt the batch that it is run in."""
    distinct = list(dict.fromkeys(prompt for prompt in prompts if prompt is not None))
    batches: dict[Prompt, list[Prompt]] = {}
    for indices in plan([as_contrast(prompt) for prompt in distinct], batch_tokens, whole=whole):
        batch = [distinct[i] for i in indices]
        batches |= dict.fromkeys(batch, batch)
    return batches


class BasePrompts:
    """The base prompts of a window of pairs, run when they are first needed."""

    def __init__(self, model: Model, hook_names: Sequence[str]) -> None:
        self.model, self.hook_names = model, hook_names
        self._window = 0
        self._batches: dict[Prompt, Sequence[Prompt]] = {}
        self._outputs: dict[Prompt, dict[str, Tensor] | Exception] = {}

    def expect(self, window: int, batches: Iterable[Sequence[Prompt]]) -> None:
        """Know some planned batches of a window; those of another window are forgotten."""
        if window != self._window:
            self._window, self._batches, self._outputs = window, {}, {}
        for batch in batches:
            self._batches |= dict.fromkeys(batch, batch)

    def residuals(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        """Return each hook point's output at the last token of planned prompts, (prompt, *hook).

        A prompt that fails alone raises the library's error; another prompt of its batch raises
        nothing: it is not the fault of these pairs.
        """
        rows = [self._output(prompt) for prompt in prompts]
        return {name: torch.stack([row[name] for row in rows]) for name in self.hook_names}

    def _output(self, prompt: Prompt) -> dict[str, Tensor]:
        output = self._outputs.get(prompt)
        if output is None or isinstance(output, Exception):
            batch = self._batches[prompt] if output is None else [prompt]  # tried again, alone
            outputs = in_halves(self.model, self._run, batch, lambda failure, _: failure.error)
            self._outputs |= zip(batch, outputs, strict=True)
            output = self._outputs[prompt]
        if isinstance(output, Exception):
            raise output
        return output

    def _run(self, batch: Sequence[Prompt]) -> list[dict[str, Tensor] | Exception]:
        outputs = read_prompts(self.model, batch, self.hook_names)
        return [{name: table[row] for name, table in outputs.items()} for row in range(len(batch))]


def summed_activations(
    model: Model, dictionaries: Dictionaries, prompts: Sequence[Prompt], batch_tokens: int
) -> list[Tensor]:
    """Return for each SAE the sum of its activations at the last tokens of prompts, in float64.

    A prompt that cannot be run, for want of memory for example, raises UnavailableError: a mean
    without it would depend on the machine.
    """
    base_prompts = BasePrompts(model, dictionaries.read_points)
    planned = plan_base_prompts(prompts, batch_tokens, whole=not model.keeps_all_keys)
    base_prompts.expect(1, planned.values())
    for prompt in prompts:  # one by one, so that the message names the one at fault
        with _needed_for_mean(f"a base prompt of {len(prompt):,} tokens cannot be run"):
            base_prompts.residuals([prompt])
    residuals = base_prompts.residuals(prompts)
    sums = []
    for dictionary in dictionaries:
        with (
            _needed_for_mean(f"{dictionary.label} cannot encode base prompts"),
            dictionaries.on_device(dictionary),
        ):
            encoded = activations(dictionary, residuals[dictionary.hook_name])
            sums.append(encoded.sum(dim=0, dtype=torch.float64))
    return sums


def windows_of(prompts: Iterable[Prompt]) -> Iterator[list[Prompt]]:
    """Yield the prompts of a mean as many at a time as are planned together."""
    iterator = iter(prompts)
    while window := list(islice(iterator, WINDOW_PAIRS)):
        yield window


def mean_activations(
    sums: Iterable[tuple[Sequence[Tensor], int]], labels: Sequence[str]
) -> list[Tensor]:
    """Return the mean activation of each feature of each SAE, or raise UnavailableError.

    `sums` are those of `summed_activations`, with the number of their prompts, in the order of the
    windows, which decides the last bits; `labels` name the SAEs.
    """
    totals: list[Tensor] = []
    count = 0
    for of_window, prompts in sums:
        pairs = zip(totals, of_window, strict=True)
        totals = [total.add_(more) for total, more in pairs] if totals else list(of_window)
        count += prompts
    means = [(total / count).float() for total in totals]
    for mean, label in zip(means, labels, strict=True):
        if not torch.isfinite(mean).all():  # else every pair of the run would be an error
            msg = f"--baseline=mean: the mean of {label} is not finite."
            raise UnavailableError(msg, "Look at the SAE and the model; or use --baseline=zero.")
    return means


@contextmanager
def _needed_for_mean(message: str) -> Iterator[None]:
    """Turn any error into the one that explains why the mean cannot be taken."""
    try:
        yield
    except Exception as error:  # the libraries raise what they like
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        hint = "Mend or shorten that prompt, give it more memory, or use --baseline=zero."
        msg = f"--baseline=mean: {message}: {reason[:200]}"
        raise UnavailableError(msg, hint) from error
