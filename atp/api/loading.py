"""Models and SAEs of a call: loaded by name, or borrowed from the caller."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn

from atp.api.session import library_log
from atp.errors import SettingsError
from atp.model import borrowed, loading
from atp.model.dictionaries import borrowed as borrowed_sae
from atp.model.dictionaries import loading as sae_loading
from atp.model.dictionaries.loading import Dictionary
from atp.model.dictionaries.names import check_sae_spec, expand_sae_specs
from atp.model.dictionaries.placement import Dictionaries
from atp.model.hub.records import offline_if_fetched
from atp.model.language_model import Model
from atp.model.names import check_model_name, check_same_model

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    import torch
    from sae_lens import SAE
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from atp.model.devices import DeviceMap

    AnyTokenizer: TypeAlias = PreTrainedTokenizerBase
    AnyModel: TypeAlias = str | Path | Model | TransformerBridge | PreTrainedModel
    """A name as for `atp run --model`, or an object in memory."""
    AnySae: TypeAlias = str | Path | Dictionary | SAE[Any]
    """A name as for `atp run --sae`, patterns included, or an object in memory."""


def load_model(  # noqa: PLR0913  (each but the first by name)
    model: str | Path | TransformerBridge | PreTrainedModel,
    *,
    tokenizer: AnyTokenizer | None = None,
    revision: str | None = None,
    device: str | torch.device | None = None,
    device_map: DeviceMap | None = None,
    dtype: str | None = None,
    attention: str = "eager",
) -> Model:
    """Load a language model once, for several calls.

    A model that `atp fetch` has fetched is loaded without asking the hub.

    Args:
        model: a hub name, a Hugging Face folder or a GGUF file; or a TransformerBridge, or a
            Hugging Face model, whose weights the result shares, and which it leaves as it is.
        tokenizer: of a Hugging Face model; for a bridge, by default its own.
        revision: branch, tag or commit of a hub model; by default its main branch.
        device: of a named model; by default the GPU if there is one.
        device_map: of a named model that is larger than one GPU: "auto" splits it over all GPUs; a
            dictionary, as Transformers takes it, names the device of each module.
        dtype: of a named model, "bfloat16" or "float32"; by default float32 on a CPU, else
            bfloat16.
        attention: of a named model, "eager" or "sdpa" (less memory on long texts; the scores
            differ by rounding).

    Returns:
        The model, frozen and in evaluation mode.

    Raises:
        SettingsError: the name, or the object, is of no model that atp can run.
        UnavailableError: the model cannot be loaded, or the device is not there.

    Example:
        >>> model = load_model("models/tiny", device="cpu")
        >>> model.name, model.n_ctx
        ('tiny', 256)
    """
    if isinstance(model, str | Path):
        name = str(model)
        check_model_name(name, revision)
        with (
            library_log(),
            loading.bars_on_a_terminal_only(),
            offline_if_fetched(name, revision, ()),
        ):
            return loading.load_model(
                name,
                revision=revision,
                device=device,
                device_map=device_map,
                dtype=dtype,
                attention=attention,
            )
    if revision or device or device_map or dtype or attention != "eager":
        msg = "revision, device, device_map, dtype and attention are for a model that is loaded "
        msg += "by its name."
        raise SettingsError(msg, "Leave them out: an object in memory stays as it is.")
    return borrowed.borrow(model, tokenizer)


def load_sae(sae: str | Path | SAE[Any], *, device: str | torch.device | None = None) -> Dictionary:
    """Load an SAE once, for several calls; it is in float32.

    Args:
        sae: "RELEASE:SAE_ID" of SAELens, or a folder in SAELens' format; or an SAE of SAELens,
            whose weights the result shares, and which it leaves as it is.
        device: of a named SAE, by default the CPU; of an object, by default where it is, else of a
            copy. Every call copies an SAE that is not on the model's device.

    Returns:
        The SAE and the hook point that it reads.

    Raises:
        SettingsError: the name is of no SAE, or its scores would be undefined.
        UnavailableError: the SAE cannot be loaded.

    Example:
        >>> sae = load_sae("saes/layer1")
        >>> sae.hook_name, sae.d_sae
        ('blocks.1.hook_resid_post', 128)
    """
    if isinstance(sae, str | Path):
        spec = str(sae)
        check_sae_spec(spec)
        with (
            library_log(),
            loading.bars_on_a_terminal_only(),
            offline_if_fetched(None, None, [spec]),
        ):
            return sae_loading.load_sae(spec, device=device or "cpu")
    dictionary = borrowed_sae.borrow(sae)
    if device is not None:
        dictionary.sae.to(device)
    return dictionary


def model_and_saes(
    model: AnyModel,
    saes: AnySae | Iterable[AnySae],
    tokenizer: AnyTokenizer | None = None,
    *,
    allow_other_model: bool = False,
) -> tuple[Model, Dictionaries]:
    """Return the model and the SAEs of a call; named ones are checked first, then loaded.

    The SAEs are on the model's device; those of the caller stay where they are.
    """
    given = checked_saes(model, saes, allow_other_model=allow_other_model)
    with offline_if_all_fetched(model, given):
        usable = as_model(model, tokenizer)
        dictionaries = [sae_of(sae) for sae in given]
    if isinstance(model, str | Path) and not allow_other_model:
        for each in dictionaries:
            check_same_model(str(model), each.trained_on, each.spec)
    there = all(_device_of(each) == usable.device for each in dictionaries)
    return usable, Dictionaries(dictionaries, usable.device, offload=False if there else None)


def checked_saes(
    model: AnyModel, saes: AnySae | Iterable[AnySae], *, allow_other_model: bool
) -> list[AnySae]:
    """Check the names of a model and its SAEs; return the SAEs, each once, patterns expanded."""
    given = [saes] if isinstance(saes, str | Path | Dictionary | nn.Module) else list(saes)
    once: dict[Any, AnySae] = {}
    for sae in given:
        if isinstance(sae, str | Path):
            once |= {spec: spec for spec in expand_sae_specs([str(sae)])}
        else:
            once[id(sae)] = sae
    if not once:
        msg = "no SAE is given."
        raise SettingsError(msg, "Name one, or give a list with one or more.")
    if isinstance(model, str | Path):
        check_model_name(str(model))
    for spec in filter(_is_name, once.values()):
        trained_on = check_sae_spec(str(spec))
        if isinstance(model, str | Path) and not allow_other_model:
            check_same_model(str(model), trained_on, str(spec))
    return list(once.values())


def offline_if_all_fetched(model: AnyModel, saes: Iterable[AnySae]) -> AbstractContextManager[None]:
    """Return a context that leaves the hub alone if all that is named was fetched."""
    name = str(model) if isinstance(model, str | Path) else None
    return offline_if_fetched(name, None, [str(sae) for sae in saes if _is_name(sae)])


def sae_of(sae: AnySae) -> Dictionary:
    """Return an SAE whose weights may be moved: loaded by its name, or borrowed."""
    return load_sae(sae) if isinstance(sae, str | Path) else borrowed_sae.borrow(sae)


def as_model(model: AnyModel, tokenizer: AnyTokenizer | None = None) -> Model:
    """Return a model that can be run: itself, loaded by its name, or borrowed."""
    if not isinstance(model, Model):
        return load_model(model, tokenizer=tokenizer)
    if any(module.training for module in model.bridge.original_model.modules()):
        msg = f"the model {model.name} is in training mode."
        raise SettingsError(msg, "Call model.bridge.eval() first.")
    return model


def _device_of(dictionary: Dictionary) -> torch.device:
    device: torch.device = next(dictionary.sae.parameters()).device
    return device


def _is_name(given: object) -> bool:
    return isinstance(given, str | Path)
