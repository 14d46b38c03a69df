"""Base prompts: what features are there, for comparison with the flagged prompts.

A window's base prompts are planned together, whatever pairs are left to do, and each batch of them
is run when the first of its pairs is: what a prompt's activations are does not depend on which
pairs were done before, or by which shard. A batch that fails is halved, down to the prompt at
fault, so that it costs no other prompt its result.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from atp.attribution.batches import plan
from atp.attribution.prompts import as_contrast, read_prompts
from atp.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sae_lens import SAE
    from torch import Tensor

    from atp.model.dictionaries.placement import Dictionaries
    from atp.model.language_model import Model

    Prompt = tuple[int, ...]
    """Token ids."""

WINDOW = 256
"""Prompts of which a mean takes batches."""


@dataclass
class BasePrompts:
    """The base prompts of a window of pairs, read as they are asked for."""

    model: Model
    hook_names: Sequence[str]
    batch_tokens: int
    _batches: dict[Prompt, list[Prompt]] = field(default_factory=dict)
    _read: dict[Prompt, dict[str, Tensor]] = field(default_factory=dict)

    def plan(self, prompts: Iterable[Prompt]) -> None:
        """Take the base prompts of the next window; what was read of the last one is forgotten."""
        self._batches, self._read = {}, {}
        distinct = list(dict.fromkeys(prompts))
        for indices in plan([as_contrast(prompt) for prompt in distinct], self.batch_tokens):
            self._put_together([distinct[i] for i in indices])

    def residuals(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        """Return what each hook point holds at the last token of planned prompts, in their order.

        Returns:
            (prompt, *hook) for each hook point.

        Raises:
            Exception: what the library raised that failed on one of them alone.
        """
        for prompt in prompts:
            while prompt not in self._read:
                self._run(self._batches[prompt])
        rows = [self._read[prompt] for prompt in prompts]
        return {name: torch.stack([row[name] for row in rows]) for name in self.hook_names}

    def _put_together(self, batch: list[Prompt]) -> None:
        self._batches |= dict.fromkeys(batch, batch)

    def _run(self, batch: list[Prompt]) -> None:
        """Read a batch; one that fails is put into halves, of which those are run that are needed.

        Only what was asked for may fail: another prompt's fault is not that of these pairs.
        """
        try:
            found = read_prompts(self.model, batch, self.hook_names)
        except Exception:
            if len(batch) == 1:
                raise
            found = None
        if found is None:  # outside the except block, which keeps the failed batch's tensors alive
            self.model.free_memory()
            half = len(batch) // 2
            self._put_together(batch[:half])
            self._put_together(batch[half:])
            return
        for row, prompt in enumerate(batch):
            self._read[prompt] = {name: table[row] for name, table in found.items()}


@torch.no_grad()
def activations(sae: SAE[Any], residuals: Tensor) -> Tensor:
    """Return what the features of an SAE are where residuals were read, (row, d_sae)."""
    found: Tensor = sae.encode(residuals.float())
    return found


def mean_activations(
    model: Model, dictionaries: Dictionaries, prompts: Iterable[Prompt], batch_tokens: int
) -> list[Tensor]:
    """Return the mean of each feature over prompts, at their last token.

    Args:
        model: that reads them.
        dictionaries: whose features are meant.
        prompts: at least one.
        batch_tokens: most tokens in a pass.

    Returns:
        float32, (d_sae,) for each SAE.

    Raises:
        UnavailableError: a prompt cannot be run, for want of memory, say; a mean without it would
            be one that depends on the machine. Or a mean is not finite.
    """
    reader = BasePrompts(model, dictionaries.hook_names, batch_tokens)
    sums = [
        torch.zeros(each.d_sae, dtype=torch.float64, device=model.device) for each in dictionaries
    ]
    iterator, count = iter(prompts), 0
    while window := list(islice(iterator, WINDOW)):
        reader.plan(window)
        for prompt in window:  # one by one, so that the one at fault can be told
            with _needed(f"a base prompt of {len(prompt):,} tokens cannot be run"):
                reader.residuals([prompt])
        found = reader.residuals(window)
        for total, dictionary in zip(sums, dictionaries, strict=True):
            there = dictionary.view(found[dictionary.hook_name])
            with (
                _needed(f"{dictionary.label} cannot encode base prompts"),
                dictionaries.on_device(dictionary) as sae,
            ):
                total.add_(activations(sae, there).sum(dim=0, dtype=torch.float64))
        count += len(window)
    means = [(total / count).float() for total in sums]
    for mean, dictionary in zip(means, dictionaries, strict=True):
        if not torch.isfinite(mean).all():  # else every pair of the run would be an error
            msg = f"--baseline=mean: the mean of {dictionary.label} is not finite."
            raise UnavailableError(msg, "Look at the SAE and the model; or use --baseline=zero.")
    return means


@contextmanager
def _needed(what: str) -> Iterator[None]:
    """Turn any error into the one that says why there is no mean over base prompts."""
    try:
        yield
    except Exception as error:  # the libraries raise what they like
        why = " ".join(f"{type(error).__name__}: {error}".split())
        msg = f"--baseline=mean: {what}: {why[:200]}"
        hint = "Mend or shorten that prompt, give it more memory, or use --baseline=zero."
        raise UnavailableError(msg, hint) from error
