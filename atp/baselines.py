"""Base prompts: what features are there, for comparison with the flagged prompts.

A window's base prompts are planned together, whatever pairs are left to do, and each batch of them
is run when the first of its pairs is: what a prompt's activations are does not depend on which
pairs were done before, or by which shard.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from atp.attribution.batches import plan
from atp.attribution.prompts import as_contrast, read_prompts
from atp.model.memory import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sae_lens import SAE
    from torch import Tensor

    from atp.model.loading import Model
    from atp.model.placement import Dictionaries

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
            batch = [distinct[i] for i in indices]
            self._batches |= dict.fromkeys(batch, batch)

    def residuals(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        """Return what each hook point holds at the last token of planned prompts, in their order.

        Returns:
            (prompt, *hook) for each hook point.
        """
        for prompt in prompts:
            if prompt not in self._read:
                self._run(self._batches[prompt])
        rows = [self._read[prompt] for prompt in prompts]
        return {name: torch.stack([row[name] for row in rows]) for name in self.hook_names}

    def _run(self, batch: Sequence[Prompt]) -> None:
        try:
            found = read_prompts(self.model, batch, self.hook_names)
        except Exception as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
            found = None
        if found is None:  # outside the except block, which keeps the failed batch's tensors alive
            self.model.free_memory()
            half = len(batch) // 2
            self._run(batch[:half])
            self._run(batch[half:])
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
    """
    reader = BasePrompts(model, dictionaries.hook_names, batch_tokens)
    sums = [
        torch.zeros(each.d_sae, dtype=torch.float64, device=model.device) for each in dictionaries
    ]
    iterator, count = iter(prompts), 0
    while window := list(islice(iterator, WINDOW)):
        reader.plan(window)
        found = reader.residuals(window)
        for total, dictionary in zip(sums, dictionaries, strict=True):
            there = dictionary.view(found[dictionary.hook_name])
            with dictionaries.on_device(dictionary) as sae:
                total.add_(activations(sae, there).double().sum(dim=0))
        count += len(window)
    return [(total / count).float() for total in sums]
