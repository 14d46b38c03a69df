"""Dictionary: an SAE or a transcoder, the hook point that it reads and those that it writes to.

SAEs stay in float32 whatever the model's dtype: near a JumpReLU threshold bfloat16 flips features.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import torch
from huggingface_hub import hf_hub_download
from safetensors import safe_open

from atp.errors import SettingsError, UnavailableError
from atp.model.dictionaries.clt import load_layer
from atp.model.dictionaries.files import CLT_LAYERS
from atp.model.dictionaries.names import (
    check_metadata,
    check_sae_spec,
    dictionary_label,
    published_at,
    refuse_unsuited,
    split_spec,
)
from atp.model.hook_names import IN_THE_STREAM, hook_point_of
from atp.model.names import OFFLINE, comparable
from atp.runtime.paths import local_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sae_lens import SAE
    from torch import Tensor


HARMLESS_IN_THE_STREAM = {
    "center_writing_weights",
    "center_unembed",
    "fold_ln",
    "fold_value_biases",
}
"""Ways to process weights that leave the residual stream as it is, but for its mean."""
ROWS_PER_PART = 4096  # of a decoder that is multiplied: a whole one may take gigabytes


@dataclass(frozen=True)
class Dictionary:
    """An SAE or a transcoder, and where in the model it reads and writes."""

    spec: str
    label: str
    """Short name, for file names, as in layer31-16k."""
    hook_name: str
    """The hook point that it reads."""
    sae: SAE[Any]
    origin: dict[str, str]
    """The sha256 of the weights, and the hub repository they came from."""
    writes: tuple[str, ...] = ()
    """The hook points that it writes to, the lowest first; by default the one that it reads."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "writes", self.writes or (self.hook_name,))

    @classmethod
    def of(cls, spec: str, label: str, sae: SAE[Any], origin: dict[str, str]) -> Dictionary:
        """Return a Dictionary whose places are those that an SAE's metadata names."""
        read, *writes = places_of(spec, sae)
        return cls(spec, label, read, sae, origin, tuple(writes))

    def __repr__(self) -> str:
        return f"Dictionary({self.spec}, {self.hook_name}, {self.d_sae} features)"

    @property
    def d_sae(self) -> int:
        """How many features it has."""
        return int(self.sae.cfg.d_sae)

    @property
    def trained_on(self) -> str | None:
        """Its model's name, if its files have one."""
        name = self.sae.cfg.metadata.model_name
        return str(name) if name else None

    def norms(self, weights: Tensor) -> Tensor:
        """Return the length of each direction, (d_sae,), without the scale of a normalising SAE.

        `weights`, (d_out,), weight the dimensions.
        """
        directions: Tensor = self.sae.W_dec.detach().flatten(1)
        parts = torch.split(directions, ROWS_PER_PART)
        on_its_device = weights.to(directions.device)  # the host, of an SAE that is lent in parts
        weighted = [(part * on_its_device).norm(dim=1) for part in parts]
        if getattr(self.sae.cfg, "rescale_acts_by_decoder_norm", False):  # decode divides by it
            weighted = [torch.cat(weighted) / directions.norm(dim=1).clamp(min=1e-30)]
        return torch.cat(weighted).to(weights.device)

    @property
    def centred(self) -> bool:
        """Whether it reads the residual stream less its mean, as of centred weights.

        transformer_lens can centre what writes to the stream of a model with LayerNorm, which takes
        the mean away in any case: that model's stream is this model's, less the mean.
        """
        kwargs = self.sae.cfg.metadata.model_from_pretrained_kwargs or {}
        in_the_stream = IN_THE_STREAM.fullmatch(self.hook_name) is not None
        return in_the_stream and bool(kwargs.get("center_writing_weights"))

    def view(self, captured: Tensor) -> Tensor:
        """Return activations as the SAE reads them: by head, (batch, head, d_head), or flat."""
        shaped = self._shaped(captured)
        return shaped - shaped.mean(dim=-1, keepdim=True) if self.centred else shaped

    def read(self, captured: Mapping[str, Tensor]) -> Tensor:
        """Return what it reads, (position, d_in), of the values at each hook point."""
        return self.view(captured[self.hook_name])

    def written(self, captured: Mapping[str, Tensor]) -> Tensor:
        """Return what the model has where it writes, side by side, (position, d_out)."""
        if self.writes == (self.hook_name,):
            return self.read(captured)
        return self.at_writes(captured)

    def at_writes(self, captured: Mapping[str, Tensor]) -> Tensor:
        """Return values or gradients at all hook points it writes to, side by side."""
        if len(self.writes) == 1:
            return self._shaped(captured[self.writes[0]])
        return torch.cat([captured[name].flatten(1) for name in self.writes], dim=1)

    @torch.no_grad()
    def skip(self, x: Tensor) -> Tensor | None:
        """Return what a skip path writes, (position, d_out), for what is read; None without one."""
        weights: Tensor | None = getattr(self.sae, "W_skip", None)
        return None if weights is None else x.float() @ weights.T

    def _shaped(self, captured: Tensor) -> Tensor:
        joins_heads = self.sae.cfg.reshape_activations == "hook_z"
        return captured if joins_heads else captured.flatten(1)

    def feature_ids(self, features: Iterable[int | str]) -> list[int]:
        """Return ids of features as numbers, or raise SettingsError for one that it lacks."""
        ids = []
        for feature in features:
            if not str(feature).isdecimal() or int(feature) >= self.d_sae:
                msg = f"{feature!r} is no feature of {self.spec}, which has {self.d_sae}."
                raise SettingsError(msg, f"Features are numbered from 0 to {self.d_sae - 1}.")
            ids.append(int(feature))
        return ids

    def describe(self) -> dict[str, Any]:
        """Return its entry in `metadata.atp`."""
        return {
            "spec": self.spec,
            "architecture": self.sae.cfg.architecture(),
            "hook_name": self.hook_name,
            **({} if self.writes == (self.hook_name,) else {"writes": list(self.writes)}),
            "d_sae": self.d_sae,
            "model_name": self.trained_on,
            **self.origin,
        }


def load_sae(spec: str, *, device: str | torch.device = "cpu") -> Dictionary:
    """Load an SAE, "RELEASE:SAE_ID" or a folder, or raise an AtpError that says why not."""
    trained_on = check_sae_spec(spec)
    # Imported here: it takes seconds, and every name has been checked by now.
    from sae_lens import SAE  # noqa: PLC0415
    from sae_lens.loading.pretrained_saes_directory import (  # noqa: PLC0415
        get_repo_id_and_folder_name,
    )

    named = split_spec(spec)
    place: dict[str, str] = {}
    try:
        if named is None:
            sae = SAE.load_from_disk(local_path(spec), device=str(device), dtype="float32")
        else:
            published = published_at(spec)
            converter = load_layer if published and published.loader == CLT_LAYERS else None
            with _shapes_from_cache():
                sae = SAE.from_pretrained(
                    *named, device=str(device), dtype="float32", converter=converter
                )
            repository, path = get_repo_id_and_folder_name(*named)
            place = {"repository": repository, "path": str(path)}
    except Exception as error:  # the libraries raise what they like
        reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
        msg = f"the SAE {spec} cannot be loaded: {reason}"
        hint = "Check the name, the network and the cache."
        if named is not None and os.environ.get("HF_HUB_OFFLINE"):
            hint = OFFLINE
        raise UnavailableError(msg, hint) from error
    check_scorable(spec, sae)
    metadata = sae.cfg.metadata
    if trained_on and comparable(trained_on) != comparable(str(metadata.model_name)):
        metadata.model_name = trained_on  # SAELens' loader of R1-Distill names the base model
    sae.eval()
    for parameter in sae.parameters():
        parameter.requires_grad_(requires_grad=False)
    return Dictionary.of(spec, label_of(sae), sae, {**place, "sha256": sha256_of(sae)})


@contextmanager
def _shapes_from_cache() -> Iterator[None]:
    """Make SAELens read the shapes in a weights file, which it loads next, from the cache.

    Its loader of Gemma Scope 2 asks the hub with a library that HF_HUB_OFFLINE does not reach.
    """
    from sae_lens.loading import pretrained_sae_loaders as loaders  # noqa: PLC0415  (8 s)

    from_the_hub = loaders.get_safetensors_tensor_shapes
    loaders.get_safetensors_tensor_shapes = _shapes
    try:
        yield
    finally:
        loaders.get_safetensors_tensor_shapes = from_the_hub


def _shapes(repo_id: str, filename: str) -> dict[str, list[int]]:
    with safe_open(hf_hub_download(repo_id, filename), framework="pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118


def places_of(spec: str, sae: SAE[Any]) -> list[str]:
    """Return the hook point that an SAE reads, and the others that it writes to.

    A place in the plain model is the most precise statement of its files: it comes first. Raises
    SettingsError for one that is not known.
    """
    metadata = sae.cfg.metadata
    written = metadata.hook_name_out
    others = written if isinstance(written, list) else [written] if written else []
    named = [(metadata.hf_hook_name, metadata.hook_name)]
    named += [(metadata.hf_hook_name_out, name) for name in others]
    places = [str(hook_name) for _, hook_name in named]
    for index, (module, _) in enumerate(named):
        if module and (found := hook_point_of(module)) is None:
            msg = f"--sae={spec} is of {module}, a place in the plain model that atp does not know."
            raise SettingsError(msg, "Choose an SAE of the residual stream or an MLP.")
        if module:
            places[index] = str(found)
    return places


def label_of(sae: SAE[Any]) -> str:
    """Return the short name of an SAE, layer31-16k."""
    metadata = sae.cfg.metadata
    return dictionary_label(metadata.hook_name, sae.cfg.d_sae, metadata.hook_name_out)


def sha256_of(sae: SAE[Any]) -> str:
    """Return the hash of loaded weights and settings: SAELens pins no revision of most releases."""
    config = sae.cfg.to_dict()
    for name in ("device", "dtype", "metadata"):
        config.pop(name, None)
    digest = hashlib.sha256(orjson.dumps(config, option=orjson.OPT_SORT_KEYS))
    for name, tensor in sorted(sae.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy())
    return digest.hexdigest()


def check_scorable(spec: str, sae: SAE[Any]) -> None:
    """Raise SettingsError if scores would be undefined, or silently wrong."""
    metadata = sae.cfg.metadata
    refuse_unsuited(f"--sae={spec}", sae.cfg.architecture())
    if not metadata.hook_name:
        msg = f"--sae={spec} does not say which hook point it reads (metadata.hook_name)."
        raise SettingsError(msg, "Add it to cfg.json.")
    if hasattr(sae.cfg, "d_out") and not metadata.hook_name_out:
        msg = f"--sae={spec} does not say which hook point it writes to (metadata.hook_name_out)."
        raise SettingsError(msg, "Add it to cfg.json.")
    if metadata.hook_head_index is not None:
        msg = f"--sae={spec} reads one attention head (hook_head_index)."
        raise SettingsError(msg, "Choose an SAE of a whole hook point.")
    check_metadata(spec, metadata.to_dict())
    kwargs = metadata.model_from_pretrained_kwargs or {}
    in_the_stream = IN_THE_STREAM.fullmatch(metadata.hook_name) is not None
    harmless = HARMLESS_IN_THE_STREAM if in_the_stream else set()
    if processed := [name for name in kwargs if kwargs[name] and name not in harmless]:
        msg = f"--sae={spec} was trained on a model with processed weights "
        msg += f"({', '.join(processed)})."
        hint = "atp runs models as published: choose an SAE that was trained so."
        raise SettingsError(msg, hint)
    if sae.cfg.normalize_activations == "expected_average_only_in":
        msg = f"--sae={spec} was saved before its normalisation was folded into the weights."
        raise SettingsError(msg, "Fold it with fold_activation_norm_scaling_factor, save it again.")
