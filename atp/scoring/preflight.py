"""Tries model, SAEs and method once on a short probe, before any pair is scored.

A combination that would give wrong numbers stops here with a one-line error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from atp.attribution.capture import TOLERANCES, Capture, HookError, check_split_pass
from atp.attribution.patched_run import PatchedRun
from atp.attribution.scores import score
from atp.config.method import Method
from atp.errors import SettingsError, UnavailableError
from atp.scoring.dictionary_scorer import lengths_of
from atp.scoring.places import check_names, check_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.model.dictionaries.placement import Dictionaries
    from atp.model.language_model import Model


def check_dictionaries(
    model: Model, dictionaries: Dictionaries, method: Method | None = None
) -> None:
    """Try a padded pass, each hook point, each SAE and, if the method needs it, a replay.

    An SAE that does not fit raises SettingsError; a model that cannot be run in parts or batches,
    or run again from a hook point on, UnavailableError.
    """
    method = method or Method()
    for dictionary in dictionaries:
        check_names(model, dictionary)
    try:
        captured = check_split_pass(
            model,
            dictionaries.written_points,
            read_only=dictionaries.read_only_points,
            resume_at=dictionaries.lowest_points if method.needs_patched_runs else (),
        )
    except HookError as error:
        msg = f"the model {model.name} cannot be read: {error}."
        raise SettingsError(msg, "Choose SAEs of another hook point.") from error
    except Exception as error:  # the libraries raise what they like
        way = "as prefix and tail" if model.keeps_all_keys else "in padded batches"
        msg = f"the model {model.name} cannot be run {way}: {error}"
        hint = (
            "atp needs a causal model that heeds its attention mask, and its cache if it has one."
        )
        raise UnavailableError(msg.splitlines()[0], hint) from error
    check_on_capture(model, dictionaries, captured)
    if method.needs_patched_runs:
        _check_patched_runs(model, dictionaries.lowest_points, captured)


def check_on_capture(model: Model, dictionaries: Dictionaries, captured: Capture) -> None:
    """Try each SAE on captured vectors; one that does not fit them raises SettingsError."""
    for dictionary in dictionaries:
        check_order(dictionary, list(captured.residuals))
        x, g = captured.residuals[dictionary.hook_name], dictionary.at_writes(captured.gradients)
        d_in, d_out = int(dictionary.sae.cfg.d_in), dictionary.sae.W_dec.shape[1:].numel()
        reason = f"{dictionary.hook_name} gives {x[0].numel()} numbers, the SAE reads {d_in} (d_in)"
        if x[0].numel() == d_in and g[0].numel() != d_out:
            places = " and ".join(dictionary.writes)
            reason = f"{places} take {g[0].numel()} numbers, the SAE writes {d_out}"
        elif x[0].numel() == d_in:
            try:
                with dictionaries.on_device(dictionary) as sae:
                    y = dictionary.written(captured.residuals)
                    lengths = lengths_of(model, dictionary)
                    score(sae, dictionary.view(x), g, lengths, y=y)
                continue
            except (RuntimeError, ValueError, IndexError) as error:
                reason = f"{dictionary.hook_name} gives a vector that the SAE cannot encode: "
                reason += str(error).splitlines()[0]
        msg = f"--sae={dictionary.spec} does not fit {model.name}: {reason}."
        raise SettingsError(msg, "Choose an SAE that was trained on this model.")


def _check_patched_runs(model: Model, hook_names: Sequence[str], captured: Capture) -> None:
    """Run the probe again unchanged: m differs if layers pass on more than the residual stream."""
    scale = 1 + float(captured.metric.abs().max())  # a metric may be small, its logits are not
    for name in hook_names:
        x = captured.residuals[name]
        pairs = torch.arange(len(captured.metric), device=x.device).repeat_interleave(2)
        nothing = torch.zeros(len(pairs), 1, *x.shape[1:], device=x.device)
        try:
            with torch.no_grad():
                run = PatchedRun(model, captured, (name,), chunk_tokens=1)
                metrics = run.metrics(pairs, nothing)
        except Exception as error:  # the libraries raise what they like
            raise _no_patched_run(model, name, str(error)) from error
        gap = float((metrics - captured.metric[pairs]).abs().max())
        if not gap <= TOLERANCES[x.dtype] * scale:
            raise _no_patched_run(model, name, f"with nothing changed, m differs by {gap:.2g}")


def _no_patched_run(model: Model, hook_name: str, reason: str) -> UnavailableError:
    msg = f"the model {model.name} cannot be run again from {hook_name} on: {reason}"
    return UnavailableError(msg.splitlines()[0], "Write --exact=none, and leave out --method=ig.")
