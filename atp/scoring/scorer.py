"""Batches of contrasts -> one analysis for each pair and SAE: the content of `atp_analysis`.

The pipeline and a notebook both come through here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from atp.attribution.batches import Batch
from atp.attribution.capture import TOLERANCES, Capture, HookError, capture, check_split_pass
from atp.attribution.patched_run import patched_run
from atp.attribution.scores import score
from atp.config.method import Method
from atp.errors import SettingsError, UnavailableError
from atp.scoring.base_prompts import BasePrompts, activations, mean_activations
from atp.scoring.dictionary_scorer import Rater

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from atp.dataset.journal import Analysis
    from atp.model.dictionaries.placement import Dictionaries
    from atp.model.language_model import Model
    from atp.model.pair_tokenizer import TokenizedPair


def check_dictionaries(
    model: Model, dictionaries: Dictionaries, method: Method | None = None
) -> None:
    """Try everything once on a short probe: the pass in two parts, each hook point, each SAE.

    Args:
        model: to be tried.
        dictionaries: to be tried on it.
        method: for one that goes through passes again, that is tried, too.

    Raises:
        SettingsError: an SAE does not fit the model; says which and why.
        UnavailableError: the model cannot be run in two parts, prefix and tail, or not be gone
            through again from a hook point on.
    """
    method = method or Method()
    for dictionary in dictionaries:
        model.check_hook(dictionary.hook_name)
    try:
        found = check_split_pass(model, dictionaries.hook_names, trace=method.traces)
    except HookError as error:
        msg = f"the model {model.name} cannot be read: {error}."
        raise SettingsError(msg, "Choose SAEs of another hook point.") from error
    except Exception as error:  # the libraries raise what they like
        msg = f"the model {model.name} cannot be run as prefix and tail: {error}"
        hint = "atp needs attention over a key-value cache; state-space models have none."
        raise UnavailableError(msg.splitlines()[0], hint) from error
    for dictionary in dictionaries:
        x, g = found.residuals[dictionary.hook_name], found.gradients[dictionary.hook_name]
        d_in = int(dictionary.sae.cfg.d_in)
        reason = f"gives {x[0].numel()} numbers, the SAE reads {d_in} (d_in)"
        if x[0].numel() == d_in:
            try:
                with dictionaries.on_device(dictionary) as sae:
                    score(sae, dictionary.view(x), dictionary.view(g))
                continue
            except (RuntimeError, ValueError, IndexError) as error:
                reason = f"gives what the SAE cannot encode: {str(error).splitlines()[0]}"
        msg = f"--sae={dictionary.spec} does not fit {model.name}: {dictionary.hook_name} {reason}."
        raise SettingsError(msg, "Choose an SAE that was trained on this model.")
    if method.traces:
        _check_patched_run(model, dictionaries.hook_names, found)


def _check_patched_run(model: Model, hook_names: Sequence[str], found: Capture) -> None:
    """Go through the probe again with nothing changed: the metric must stay.

    Raises:
        UnavailableError: it does not: a layer hands on more than the residual stream, say.
    """
    scale = 1 + float(found.metric.abs().max())  # one metric may be small, its logits are not
    for name in hook_names:
        x = found.residuals[name]
        for pair, metric in enumerate(found.metric.tolist()):
            replay = patched_run(model, found, pair, name, chunk_tokens=1)
            nothing = torch.zeros(2, 1, *x.shape[1:], device=x.device)
            try:
                with torch.no_grad():
                    gap = float((replay.metrics(nothing) - metric).abs().max())
            except Exception as error:  # the libraries raise what they like
                raise _no_patched_run(model, name, str(error)) from error
            if not gap <= TOLERANCES[x.dtype] * scale:
                raise _no_patched_run(model, name, f"with nothing changed, m differs by {gap:.2g}")


def _no_patched_run(model: Model, hook_name: str, reason: str) -> UnavailableError:
    """Return the error that says why effects cannot be had."""
    msg = f"the model {model.name} cannot be gone through again from {hook_name} on: {reason}"
    return UnavailableError(msg.splitlines()[0], "Leave out --exact and --method=ig.")


@dataclass(frozen=True)
class Reading:
    """What one pass found for a batch of pairs."""

    batch: Sequence[TokenizedPair]
    found: Capture
    base: dict[str, Tensor] | None = None
    """What hook points hold at the last token of each pair's base prompt, (pair, *hook)."""

    def halves(self) -> tuple[Reading, Reading]:
        """Return the first and the second half of the pairs."""
        half = len(self.batch) // 2
        return self._some(slice(None, half)), self._some(slice(half, None))

    def _some(self, which: slice) -> Reading:
        base = self.base and {name: rows[which] for name, rows in self.base.items()}
        return Reading(self.batch[which], self.found.pairs(which), base)


@dataclass
class Scorer:
    """A model, its SAEs, and how features are scored."""

    model: Model
    dictionaries: Dictionaries
    top_k: int
    method: Method = field(default_factory=Method)
    batch_tokens: int = 2048
    """Most tokens of base prompts, or of variants of a pair, in a pass."""
    means: Sequence[Tensor] = ()
    """The mean activations over base prompts, of each SAE, where they are the baseline."""
    base_prompts: BasePrompts = field(init=False)
    """Those of the pairs that are read; to be planned before, where the method reads them."""

    def __post_init__(self) -> None:
        """Make the reader of base prompts."""
        names = self.dictionaries.hook_names
        self.base_prompts = BasePrompts(self.model, names, self.batch_tokens)

    def take_means(self, prompts: Iterable[tuple[int, ...]]) -> None:
        """Run base prompts to take the mean of each feature over them."""
        self.means = mean_activations(self.model, self.dictionaries, prompts, self.batch_tokens)

    def read(self, batch: Sequence[TokenizedPair]) -> Reading:
        """Run the model once over a batch, and keep what its hook points held."""
        contrasts = [item.contrast for item in batch]
        tensors = Batch.of(contrasts, self.model.device, self.method.position)
        names = self.dictionaries.hook_names
        base = None
        if self.method.reads_base_prompts:  # first: a capture's trace takes memory until it is used
            prompts = [item.base_prompt for item in batch if item.base_prompt is not None]
            base = self.base_prompts.residuals(prompts)
        found = capture(self.model, tensors, names, trace=self.method.traces)
        return Reading(batch, found, base)

    def analyse(self, readings: Sequence[Reading]) -> list[list[Analysis]]:
        """Score readings with every SAE, one SAE after the other.

        Returns:
            For each pair, one analysis for each SAE. A number that is not finite makes an error of
            that pair and SAE alone.
        """
        means: Sequence[Tensor | None] = self.means or [None] * len(self.dictionaries)
        by_dictionary: list[list[Analysis]] = []
        for dictionary, mean in zip(self.dictionaries, means, strict=True):
            analyses: list[Analysis] = []
            rate = Rater(self.model, dictionary, self.method, self.top_k, self.batch_tokens)
            with self.dictionaries.on_device(dictionary) as sae:
                for reading in readings:
                    base = None
                    if reading.base is not None:
                        there = dictionary.view(reading.base[dictionary.hook_name])
                        base = activations(sae, there)
                    analyses += rate(reading.batch, reading.found, base, mean)
            by_dictionary.append(analyses)
        return [list(of_pair) for of_pair in zip(*by_dictionary, strict=True)]
