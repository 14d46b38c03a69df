"""The start of every command that runs a model: names are checked, then everything is loaded.

torch and its users are imported inside `load`, so that a misspelt name is an error at once.
"""

from __future__ import annotations

import gc
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from atp.dataset.source import opened
from atp.model.dictionaries.names import check_sae_spec, expand_sae_specs
from atp.model.dictionaries.picking import sae_specs
from atp.model.names import check_model_name, check_same_model, is_local
from atp.runtime.live import phase
from atp.runtime.paths import local_path
from atp.runtime.units import size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from atp.config.settings import Settings
    from atp.model.dictionaries.placement import Dictionaries
    from atp.model.language_model import Model
    from atp.model.pair_tokenizer import PairTokenizer, TokenizerAlone

log = structlog.get_logger()


@dataclass(frozen=True)
class Loaded:
    """A loaded model, its SAEs and its pair tokenizer."""

    model: Model
    dictionaries: Dictionaries
    pair_tokenizer: PairTokenizer


def check_names(settings: Settings) -> tuple[str, ...]:
    """Check the names of model and SAEs; return the SAEs, patterns expanded."""
    check_model_name(settings.model, settings.revision)
    specs = expand_sae_specs(sae_specs(settings))
    for spec in specs:
        trained_on = check_sae_spec(spec)
        if trained_on and not settings.allow_other_model:
            check_same_model(settings.model, trained_on, spec)
    return specs


def check(settings: Settings) -> tuple[str, ...]:
    """Check the input, too; leave the hub alone if everything was fetched; return the SAEs."""
    specs = check_names(settings)
    with opened(settings.input):
        pass  # it exists
    from atp.model.hub.records import go_offline_if_fetched  # noqa: PLC0415  (half a second: names first)

    go_offline_if_fetched(settings.model, settings.revision, specs)
    return specs


def load(settings: Settings, specs: Sequence[str]) -> Loaded:
    """Load model and SAEs, and try them together; or raise SettingsError or UnavailableError."""
    saes = f"{len(specs)} SAE{'s' if len(specs) > 1 else ''}"
    with phase(f"loading {_with_size(settings)}, and {saes}"), uncollected():
        return _load(settings, specs)


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect no garbage while libraries and models are loaded, and leave them out from then on.

    They make hundreds of thousands of objects, of which nearly all stay. Going through them again
    and again took a quarter of a start, and a fifth of the time of a run's driver.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _load(settings: Settings, specs: Sequence[str]) -> Loaded:
    began = time.monotonic()
    # Batches differ in shape: with fixed segments, the free memory would end up in pieces too small
    # for any batch. torch reads this variable when CUDA starts.
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    from atp.model.dictionaries.loading import load_sae  # noqa: PLC0415
    from atp.model.dictionaries.placement import Dictionaries  # noqa: PLC0415
    from atp.model.loading import load_model, quiet_libraries  # noqa: PLC0415
    from atp.scoring.preflight import check_dictionaries  # noqa: PLC0415

    quiet_libraries()
    model = load_model(
        settings.model,
        revision=settings.revision,
        device=settings.device,
        device_map=settings.device_map,
        dtype=settings.model_dtype,
        attention=settings.attention,
    )
    pair_tokenizer = _pair_tokenizer(settings, model)
    saes = [load_sae(spec) for spec in specs]
    for dictionary in saes:
        known_before = check_sae_spec(dictionary.spec) is not None
        if not (known_before or settings.allow_other_model):
            check_same_model(settings.model, dictionary.trained_on, dictionary.spec)
    dictionaries = Dictionaries(saes, model.device)
    check_dictionaries(model, dictionaries, settings.scoring)
    log.info(
        "model.loaded",
        model=model.name,
        device=", ".join(map(str, model.devices)),
        dtype=str(model.dtype).removeprefix("torch."),
        saes=list(specs),
        lent=dictionaries.offloaded,
        seconds=round(time.monotonic() - began, 1),
    )
    if not model.keeps_all_keys:
        log.info("model.whole_texts", model=model.name, layers=model.layer_kinds)
    return Loaded(model, dictionaries, pair_tokenizer)


def pair_tokenizer_for(settings: Settings, n_ctx: int) -> PairTokenizer:
    """Return the pair tokenizer of a model that others have loaded, with a context of `n_ctx`."""
    from atp.model.loading import load_tokenizer, loading_errors, quiet_libraries  # noqa: PLC0415
    from atp.model.pair_tokenizer import TokenizerAlone  # noqa: PLC0415

    quiet_libraries()
    with loading_errors(settings.model):
        tokenizer = load_tokenizer(settings.model, settings.revision)
    return _pair_tokenizer(settings, TokenizerAlone(settings.model, tokenizer, n_ctx))


def _pair_tokenizer(settings: Settings, model: Model | TokenizerAlone) -> PairTokenizer:
    from atp.model.pair_tokenizer import PairTokenizer  # noqa: PLC0415  (torch comes with it)

    return PairTokenizer(
        model,
        max_tokens_to_check=settings.max_tokens_to_check,
        chat_template=settings.chat_template,
        sequence_tokens=settings.scoring.sequence,
        base_prompts=settings.scoring.reads_base_prompts,
    )


def _with_size(settings: Settings) -> str:
    """Return the model's name, and the bytes of its weights if they are on this machine."""
    from atp.model.hub_cache import cached_folder, weights_bytes  # noqa: PLC0415  (as above)

    local = is_local(settings.model)
    path = local_path(settings.model) if local else cached_folder(settings.model, settings.revision)
    if path is None:
        return f"{settings.model} from the hub"
    count = path.stat().st_size if path.is_file() else weights_bytes(path)
    return f"{path.name if local else settings.model}, {size(count)}"
