"""What is fetched is what the libraries' own loaders read: no file less, none more."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import EntryNotFoundError
from sae_lens.loading import pretrained_sae_loaders as loaders
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

from atp.errors import UnavailableError
from atp.model.dictionaries.files import FILES, Published
from atp.model.dictionaries.names import published_at
from atp.model.dictionaries.refusals import UNSUITED
from atp.model.hub.listing import HubFile, Listing
from atp.model.hub.required_files import model_files, sae_files

TOKENIZER = ["tokenizer.json", "tokenizer_config.json"]
OTHERS = ["README.md", "flax_model.msgpack", "original/consolidated.00.pth", "onnx/model.onnx"]
NOWHERE = "0" * 40


def listed(names: Sequence[str], index: bytes = b"") -> Listing:
    """Return a listing of empty files, and an index that reads as given."""

    class Known(Listing):
        """A listing that needs no hub."""

        def read(self, name: str) -> bytes:
            """Return the index."""
            assert name.endswith(".index.json")
            return index

    files = {name: HubFile(name, 0, "", None) for name in names}
    return Known("owner/name", "main", NOWHERE, gated=False, files=files)


# --- models


@pytest.mark.parametrize(
    ("weights", "chosen"),
    [
        (["model.safetensors", "pytorch_model.bin"], ["model.safetensors"]),
        (["pytorch_model.bin", "tf_model.h5"], ["pytorch_model.bin"]),
        (
            ["model.safetensors", "model.safetensors.index.json", "a.safetensors"],
            ["model.safetensors"],
        ),
        (
            ["model.safetensors.index.json", "a.safetensors", "b.safetensors", "c.safetensors"],
            ["a.safetensors", "b.safetensors", "model.safetensors.index.json"],
        ),
        (
            ["pytorch_model.bin.index.json", "a.safetensors", "b.safetensors", "x.bin"],
            ["a.safetensors", "b.safetensors", "pytorch_model.bin.index.json"],
        ),
    ],
)
def test_one_kind_of_weights_is_chosen_as_transformers_does(
    weights: list[str], chosen: list[str]
) -> None:
    index = json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}).encode()

    found = model_files(listed([*weights, "config.json", *TOKENIZER, *OTHERS], index))

    assert found == sorted([*chosen, "config.json", *TOKENIZER])


def test_what_tokenizers_and_templates_are_made_of_comes_along() -> None:
    beside = ["vocab.txt", "merges.txt", "tokenizer.model", "chat_template.jinja", "config.json"]
    template = "additional_chat_templates/tool_use.jinja"

    found = model_files(listed(["model.safetensors", *beside, template, *OTHERS]))

    assert found == sorted(["model.safetensors", *beside, template])


@pytest.mark.parametrize(
    ("names", "lacks"),
    [
        (["config.json", "model.onnx"], "no weights"),
        (["model.safetensors"], "no config.json"),
        (["config.json", "model.safetensors.index.json"], "lacks a.safetensors"),
    ],
)
def test_a_repository_that_is_no_model_is_refused(names: list[str], lacks: str) -> None:
    index = b'{"weight_map": {"x": "a.safetensors"}}'

    with pytest.raises(UnavailableError, match=f"owner/name .*{lacks}"):
        model_files(listed(names, index))


@pytest.mark.parametrize("index", [b"", b"[]", b"{}", b'{"weight_map": 3}'])
def test_an_index_that_is_none_is_refused(index: bytes) -> None:
    with pytest.raises(UnavailableError, match="is no index of weights"):
        model_files(listed(["config.json", "model.safetensors.index.json"], index))


# --- SAEs

EXAMPLES = {
    "sae_lens": ("owner/saes", "layer_1/small"),
    "connor_rob_hook_z": ("owner/saes", "gpt2-small_L0_Hcat_z.pt"),
    "deepseek_r1": ("owner/saes", "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt"),
    "dictionary_learning_1": ("owner/saes", "pythia/layer_3/trainer_0"),
    "gemma_2": ("google/gemma-scope-2b-pt-res", "layer_3/width_16k/average_l0_59"),
    "gemma_2_transcoder": (
        "google/gemma-scope-2b-pt-transcoders",
        "layer_3/width_16k/average_l0_9",
    ),
    "gemma_3": ("google/gemma-scope-2-1b-pt", "transcoder/layer_3_width_16k_l0_small_affine"),
    "goodfire": ("Goodfire/Llama-3.1-8B-Instruct-SAE-l19", "Llama-3.1-8B-Instruct-SAE-l19.pth"),
    "llama_scope": ("owner/saes", "Llama3_1-8B-Base-L3R-8x"),
    "llama_scope_r1_distill": ("owner/saes", "800M/L3R"),
    "mntss_clt_layer_transcoder": ("owner/clt", "3"),
    "mwhanna_transcoder": ("mwhanna/qwen3-14b-transcoders", "layer_3.safetensors"),
    "qwen_scope": ("Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_50", "layer3.sae.pt"),
    "sparsify": ("owner/saes", "sae/layers.3"),
}
CONFIG = {
    "architecture": "jump_relu",
    "model_name": "google/gemma-3-1b-pt",
    "hook_name": "blocks.1.hook_resid_post",
    "dtype": "float32",
    "act_size": 8,
    "dict_size": 8,
    "act_name": "blocks.1.attn.hook_z",
    "d_model": 8,
    "d_sae": 8,
    "expansion_factor": 1,
    "hook_point_in": "blocks.1.hook_resid_post",
    "jump_relu_threshold": 1.0,
    "dataset_average_activation_norm": {"in": 1.0},
    "trainer": {
        "layer": 1,
        "dict_class": "AutoEncoder",
        "activation_dim": 8,
        "dict_size": 8,
        "lm_name": "owner/model",
    },
    "buffer": {"ctx_len": 8},
    "feature_input_hook": "hook_mlp_in",
    "feature_output_hook": "hook_mlp_out",
    "d_in": 8,
    "k": 2,
}
"""All that any of the loaders reads of a configuration."""


OF_WANDB = {name: {"value": 8} for name in ("d_model", "d_feature", "batch_size")}
ALTERNATIVES = [(loader, choice) for loader in FILES for choice in ("all", "required", "others")]
"""Which files a repository has: all, the required ones alone, or the other names of these."""


class WeightsAskedForError(Exception):
    """Ends a loader at its last file: there are no weights to read."""


@pytest.mark.parametrize(("loader", "there"), ALTERNATIVES)
def test_what_is_fetched_of_an_sae_is_what_its_loader_opens(
    loader: str, there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SAELens' own loader runs against a hub that has the files and others beside them."""
    repository, path = EXAMPLES[loader]
    published = Published(repository, path, loader)
    names = [
        name
        for pattern in FILES[loader]
        if there == "all" or not pattern.startswith("?")
        for name in _names(pattern, path, -1 if there == "others" else 0)
    ]
    opened: set[str] = set()

    def download(repo_id: str, filename: str, subfolder: str | None = None, **_: Any) -> str:
        name = f"{subfolder}/{filename}" if subfolder else filename
        assert repo_id == repository
        if name not in names:
            raise EntryNotFoundError(name)
        opened.add(name)
        return str(tmp_path / name)

    for name in names:
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        content = OF_WANDB if "-config.yaml" in name else CONFIG
        place.write_text(json.dumps(content) if place.suffix in {".json", ".yaml"} else "")

    def shapes(repo_id: str, filename: str) -> dict[str, list[int]]:
        download(repo_id, filename)
        return {name: [8, 8] for name in ("w_enc", "w_dec", f"b_enc_{path}", f"b_dec_{path}")}

    def no_weights(*_: object, **__: object) -> None:
        raise WeightsAskedForError

    monkeypatch.setattr(loaders, "hf_hub_download", download)
    monkeypatch.setattr(loaders, "get_safetensors_tensor_shapes", shapes)
    for module, name in ((loaders, "safe_open"), (loaders.np, "load"), (loaders.torch, "load")):
        monkeypatch.setattr(module, name, no_weights)
    if loader == "sparsify":  # reads what stands beside its weights without asking the hub for it
        opened |= {name for name in names if name.endswith(".json")}

    with pytest.raises(WeightsAskedForError):
        loaders.NAMED_PRETRAINED_SAE_LOADERS[loader](repository, path)

    others = ["README.md", f"{path}/runner_cfg.json", "other/cfg.json", "wandb.yaml"]
    assert sae_files(listed([*names, *others]), published) == sorted(opened)


def _names(pattern: str, path: str, alternative: int) -> list[str]:
    """Return the names that a pattern means, with all of its alternatives or the last one."""
    parent = path.rpartition("/")[0]
    values = {"path": path, "stem": path.removesuffix(".pt"), "parent": f"{parent}/" * bool(parent)}
    names = pattern.removeprefix("?").format(**values).split("|")
    return names[alternative:] if alternative else names


def test_the_files_of_every_loader_of_saelens_are_known() -> None:
    assert FILES.keys() | UNSUITED.keys() == loaders.NAMED_PRETRAINED_SAE_LOADERS.keys()
    assert FILES.keys() == EXAMPLES.keys()


def test_the_loader_of_a_release_is_as_saelens_has_it() -> None:
    """Of every release, by one SAE each: the list is read without SAELens."""
    for release, known in get_pretrained_saes_directory().items():
        if known.conversion_func in UNSUITED:
            continue
        sae_id, path = next(iter(known.saes_map.items()))
        expected = (known.repo_id, path, known.conversion_func or "sae_lens")
        assert published_at(f"{release}:{sae_id}") == expected


def test_a_file_that_is_missing_is_named() -> None:
    with pytest.raises(UnavailableError, match=r"owner/name lacks layer_1/sae_weights\.safe"):
        sae_files(listed(["layer_1/cfg.json"]), Published("owner/name", "layer_1", "sae_lens"))
