"""Batches of contrasts -> one analysis for each pair and SAE: the content of `atp_analysis`.

The pipeline and a notebook both come through here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from atp.analyses import analyses_of, without_contrast
from atp.attribution.batches import Batch, plan
from atp.attribution.capture import Capture, HookError, capture, prove
from atp.attribution.scores import score
from atp.errors import SettingsError, UnavailableError
from atp.model.contrast import Contrasted, Contraster, NotContrasted
from atp.model.placement import Dictionaries

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from atp.dataset.journal import Analysis
    from atp.model.dictionaries import Dictionary
    from atp.model.loading import Model


def attribute(  # noqa: PLR0913  (keywords with defaults)
    model: Model,
    sae: Dictionary,
    answers: Iterable[tuple[str, str, str]],
    *,
    top_k: int = 50,
    max_tokens_to_check: int = 20,
    chat_template: bool = False,
    batch_tokens: int = 2048,
) -> list[Analysis]:
    """Score the features of one SAE for pairs of answers.

    Args:
        model: from `load_model`.
        sae: from `load_sae`.
        answers: (prompt, sycophantic response, neutral response) of each pair.
        top_k: how many features to list, by |score|.
        max_tokens_to_check: how many tokens of the answers to compare.
        chat_template: put prompts through the tokenizer's chat template.
        batch_tokens: most tokens in one pass, padding included.

    Returns:
        One analysis a pair, as the result file has it in `atp_analysis`.

    Raises:
        SettingsError: the SAE does not belong to the model.
    """
    dictionaries = Dictionaries([sae], model.device)
    check_dictionaries(model, dictionaries)
    contraster = Contraster(
        model, max_tokens_to_check=max_tokens_to_check, chat_template=chat_template
    )
    found = [contraster(*texts) for texts in answers]
    analyses = [without_contrast(item) if isinstance(item, NotContrasted) else {} for item in found]
    places = [i for i, item in enumerate(found) if isinstance(item, Contrasted)]
    contrasted = [item for item in found if isinstance(item, Contrasted)]
    for indices in plan([item.contrast for item in contrasted], batch_tokens):
        members = [contrasted[i] for i in indices]
        readings = [read(model, dictionaries, members)]
        for i, (analysis,) in zip(indices, analyse(dictionaries, readings, top_k), strict=True):
            analyses[places[i]] = analysis
    return analyses


def check_dictionaries(model: Model, dictionaries: Dictionaries) -> None:
    """Try everything once on a short probe: the pass in two parts, each hook point, each SAE.

    Raises:
        SettingsError: an SAE does not fit the model; says which and why.
        UnavailableError: the model cannot be run in two parts, prefix and tail.
    """
    for dictionary in dictionaries:
        model.check_hook(dictionary.hook_name)
    try:
        found = prove(model, dictionaries.hook_names)
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


@dataclass(frozen=True)
class Reading:
    """What one pass found for a batch of pairs."""

    batch: Sequence[Contrasted]
    found: Capture

    def halves(self) -> tuple[Reading, Reading]:
        """Return the first and the second half of the pairs."""
        half = len(self.batch) // 2
        return (
            Reading(self.batch[:half], self.found.rows(slice(None, half))),
            Reading(self.batch[half:], self.found.rows(slice(half, None))),
        )


def read(model: Model, dictionaries: Dictionaries, batch: Sequence[Contrasted]) -> Reading:
    """Run the model once over a batch, and keep what its hook points held."""
    tensors = Batch.of([item.contrast for item in batch], model.device)
    return Reading(batch, capture(model, tensors, dictionaries.hook_names))


def analyse(
    dictionaries: Dictionaries, readings: Sequence[Reading], top_k: int
) -> list[list[Analysis]]:
    """Score readings with every SAE, one SAE after the other.

    Returns:
        For each pair, one analysis for each SAE. A number that is not finite makes an error of
        that pair and SAE alone.
    """
    by_dictionary: list[list[Analysis]] = []
    for dictionary in dictionaries:
        name = dictionary.hook_name
        analyses: list[Analysis] = []
        with dictionaries.on_device(dictionary) as sae:
            for reading in readings:
                x, g = reading.found.residuals[name], reading.found.gradients[name]
                scores = score(sae, dictionary.view(x), dictionary.view(g))
                analyses += analyses_of(reading.batch, reading.found.metric, scores, top_k)
                del scores  # of every feature: not two batches at once
        by_dictionary.append(analyses)
    return [list(of_pair) for of_pair in zip(*by_dictionary, strict=True)]
