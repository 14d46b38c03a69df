"""The procedures that `atp bench` compares, on the same pairs of the same input.

notebook   the procedure that atp replaces, pair by pair, for every SAE in turn
atp        `atp run` after loading: reading, tokenising, passes, SAEs, journal, result files
passes     of that, the forward and backward passes alone
bare       one forward pass over the same tokens in the same batches, without gradients, hooks,
           logits and shared prefixes: the lower bound
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.rnn import pad_sequence

from atp.attribution.batches import Batch, computed_tokens, plan
from atp.attribution.capture import capture
from atp.bench.measure import Contender
from atp.bench.notebook import Notebook, layers_of
from atp.dataset import reader
from atp.dataset.input_scan import scan_input
from atp.dataset.journal import SUFFIX, Journal
from atp.dataset.pairs import Pair
from atp.errors import InputError, SettingsError
from atp.model.hook_names import layer_of
from atp.model.loading import load_plain
from atp.model.pair_tokenizer import TokenizedPair
from atp.run.command import score
from atp.run.engine.in_process import InProcess
from atp.runtime.signals import StopRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

    from atp.attribution.contrasts import Contrast
    from atp.config.settings import Settings
    from atp.model.dictionaries.loading import Dictionary
    from atp.model.language_model import Model
    from atp.run.setup import Loaded

WARM_UP_PAIRS = 3  # for the notebook's procedure, which is slow
BRIDGE_PART = "._original_component"  # the bridge adds it to the names of parameters


@dataclass(frozen=True)
class Workload:
    """The pairs that have a contrast: their texts, and their contrasts in batches."""

    pairs: tuple[Pair, ...]
    batches: tuple[tuple[Contrast, ...], ...]
    batch_tokens: int

    @property
    def tokens(self) -> int:
        """The tokens of all contrasts."""
        return sum(len(item.tokens) for batch in self.batches for item in batch)

    @property
    def padded_tokens(self) -> int:
        """The tokens that the bare pass computes: those of all contrasts, and padding."""
        return sum(len(batch) * max(len(item.tokens) for item in batch) for batch in self.batches)

    @property
    def computed_tokens(self) -> int:
        """The tokens that atp computes: shared prefixes once a batch, and padding."""
        return sum(map(computed_tokens, self.batches))


def workload(settings: Settings, loaded: Loaded, batch_tokens: int) -> Workload:
    """Read, tokenise and plan the input as one window; raise InputError if it has no contrast."""
    pairs, contrasts = [], []
    for pair in reader.pairs(settings.input, settings.limit):
        if not isinstance(pair, Pair):
            continue
        tokenized = loaded.pair_tokenizer(pair.prompt, pair.target_response, pair.base_response)
        if isinstance(tokenized, TokenizedPair):
            pairs.append(pair)
            contrasts.append(tokenized.contrast)
    if not pairs:
        msg = f"{settings.input} holds no pair that can be scored."
        raise InputError(msg, "Name a file whose flagged responses differ from the base ones.")
    plans = plan(contrasts, batch_tokens, whole=not loaded.model.keeps_all_keys)
    batches = tuple(tuple(contrasts[i] for i in batch) for batch in plans)
    return Workload(tuple(pairs), batches, batch_tokens)


def load_plain_model(model: Model, name: str, revision: str | None) -> PreTrainedModel:
    """Load the plain model of a name and revision, and let it share the weights of `model`.

    The bridge of `model` has hook points in its modules; a bare pass is timed without them.
    """
    plain = load_plain(name, revision, torch.device("cpu"), model.dtype)
    bridge_weights = {
        key.replace(BRIDGE_PART, ""): parameter
        for key, parameter in model.bridge.original_model.named_parameters(remove_duplicate=False)
    }
    for key, parameter in plain.named_parameters():
        shared, form = bridge_weights.get(key), (parameter.shape, parameter.dtype)
        # The bridge splits some weights into parts: those keep a copy of their own.
        if shared is not None and (shared.shape, shared.dtype) == form:
            parameter.data = shared.data
    return plain.to(model.device)


def contenders(settings: Settings, loaded: Loaded, plain: Any, work: Workload) -> list[Contender]:  # noqa: ANN401
    """Return the four procedures; `plain` is the model of `load_plain_model`."""
    chat, max_tokens = settings.chat_template, settings.max_tokens_to_check
    notebooks = [_notebook(loaded, plain, dictionary) for dictionary in loaded.dictionaries]

    def notebook(pairs: Sequence[Pair] = work.pairs) -> None:
        for dictionary, procedure in zip(loaded.dictionaries, notebooks, strict=True):
            with loaded.dictionaries.on_device(dictionary):
                for pair in pairs:
                    texts = (pair.prompt, pair.target_response, pair.base_response)
                    procedure(*texts, chat=chat, max_tokens=max_tokens)

    def atp() -> None:
        with TemporaryDirectory(prefix="atp-bench-") as folder:
            scan = scan_input(settings.input)
            own = replace(settings, out=Path(folder), batch_tokens=work.batch_tokens)
            score(own, scan, InProcess(loaded, own, scan), StopRequest())
            _check_none_lost(Path(folder))

    def passes() -> None:
        for batch in work.batches:
            whole = not loaded.model.keeps_all_keys
            tensors = Batch.of(batch, loaded.model.device, whole=whole)
            capture(loaded.model, tensors, loaded.dictionaries.written_points)

    inputs = [_bare_inputs(batch, loaded.model.device) for batch in work.batches]

    @torch.no_grad()
    def bare() -> None:
        for tensors in inputs:
            plain.base_model(**tensors, use_cache=False)

    return [
        Contender("notebook", notebook, lambda: notebook(work.pairs[:WARM_UP_PAIRS])),
        Contender("atp", atp, atp),
        Contender("passes", passes, passes),
        Contender("bare", bare, bare),
    ]


def _check_none_lost(folder: Path) -> None:
    """Raise OutOfMemoryError if the run gave up pairs, which is faster than scoring them."""
    for path in folder.glob(f"*{SUFFIX}"):
        with Journal.reopen(path) as journal:
            for analyses in journal.all_analyses():
                if any(analysis.get("error") == "OOM" for analysis in analyses):
                    raise torch.OutOfMemoryError


def _notebook(loaded: Loaded, plain: Any, dictionary: Dictionary) -> Notebook:  # noqa: ANN401
    layer = layer_of(dictionary.hook_name)
    if dictionary.hook_name != f"blocks.{layer}.hook_resid_post":
        msg = f"--sae={dictionary.spec} reads {dictionary.hook_name}."
        hint = "The notebook's procedure reads the residual stream after a layer."
        raise SettingsError(msg, hint)
    return Notebook(plain, loaded.model.tokenizer, dictionary.sae, layers_of(plain)[layer])


def _bare_inputs(batch: Sequence[Contrast], device: torch.device) -> dict[str, torch.Tensor]:
    """Return the rows of a batch without shared prefixes, left-padded."""
    rows = [torch.tensor(item.tokens, device=device) for item in batch]
    padded = partial(pad_sequence, batch_first=True, padding_side="left")
    mask = padded([torch.ones_like(row) for row in rows])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return {"input_ids": padded(rows), "attention_mask": mask, "position_ids": positions}
