"""Models load from folders and GGUF files, frozen; what cannot be loaded says why in one line."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gguf_files
import pytest
import tiny
import torch
from oracle import Oracle
from safetensors.torch import load_file, save_file
from tiers import first_tier
from transformers import AutoModelForCausalLM, MambaConfig

from atp import attribute, load_model, load_sae
from atp.attribution.batches import Batch
from atp.attribution.capture import capture
from atp.errors import AtpError, SettingsError, UnavailableError
from atp.model.device_memory import is_out_of_memory
from atp.model.devices import choose_device, choose_dtype
from atp.model.loading import load_plain, quiet_libraries
from atp.model.outline import outline
from atp.model.pair_tokenizer import PairTokenizer
from atp.runtime.log import configure
from atp.scoring.preflight import check_dictionaries

ModelFolder = Callable[[str], Path]

ATTENTION = ("llama", "gemma3", "gpt2", "gpt_neox", "qwen2")


def test_a_loaded_model_is_frozen_and_in_evaluation_mode(model_folder: ModelFolder) -> None:
    model = load_model(str(model_folder("gpt2")), device="cpu")
    assert not model.bridge.original_model.training
    assert not any(p.requires_grad for p in model.bridge.original_model.parameters())
    assert model.dtype == torch.float32
    assert model.n_ctx == tiny.N_CTX
    assert set(model.origin) == {"sha256"}


def test_other_weights_have_another_hash(model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "tiny", "gpt2")
    before = load_model(str(folder), device="cpu").origin
    assert before == load_model(str(model_folder("gpt2")), device="cpu").origin
    weights = load_file(folder / "model.safetensors")
    weights["transformer.ln_f.bias"] = weights["transformer.ln_f.bias"] + 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_model(str(folder), device="cpu").origin != before


def test_another_chat_template_has_another_hash(tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "tiny", "gpt2")
    before = load_model(str(folder), device="cpu").origin
    with (folder / "chat_template.jinja").open("a") as file:
        file.write(" ")
    assert load_model(str(folder), device="cpu").origin != before


def test_a_model_without_a_key_value_cache_is_refused(tmp_path: Path) -> None:
    config = MambaConfig(
        hidden_size=tiny.D_MODEL, num_hidden_layers=2, vocab_size=tiny.VOCABULARY, state_size=4
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    sae = load_sae(str(_saved(tiny.make_sae("standard"), tmp_path)))

    def use() -> None:
        check_dictionaries(load_model(str(tmp_path), device="cpu"), [sae])

    with pytest.raises(AtpError) as caught:
        use()
    assert "\n" not in str(caught.value)


def test_gradients_in_bfloat16_are_close_to_float32(model_folder: ModelFolder) -> None:
    """Within 10 % of their length on a random four-layer model, where rounding has free play."""
    hook = "blocks.1.hook_resid_post"
    found = {}
    for dtype in ("float32", "bfloat16"):
        model = load_model(str(model_folder("llama")), device="cpu", dtype=dtype)
        pair_tokenizer = PairTokenizer(model, max_tokens_to_check=20, chat_template=False)
        contrasts = [pair_tokenizer(*triple).contrast for triple in tiny.triples()]
        found[dtype] = capture(model, Batch.of(contrasts, model.device), [hook]).gradients[hook]
    exact, coarse = found["float32"], found["bfloat16"].float()
    gaps = (exact - coarse).norm(dim=1) / exact.norm(dim=1)
    assert gaps.median() <= 0.1


def test_the_metric_in_bfloat16_is_close_to_float32(model_folder: ModelFolder) -> None:
    """Within a tenth of its spread on average; the same model, so the same contrasts."""
    sae = load_sae(str(_saved(tiny.make_sae("standard"), model_folder("llama").parent)))
    exact, coarse = (
        attribute(
            load_model(str(model_folder("llama")), device="cpu", dtype=dtype), sae, tiny.triples()
        )
        for dtype in ("float32", "bfloat16")
    )
    metrics = torch.tensor(
        [[a["logit_diff"], b["logit_diff"]] for a, b in zip(exact, coarse, strict=True)]
    )
    assert (metrics[:, 0] - metrics[:, 1]).abs().mean() <= 0.1 * metrics[:, 0].std()
    assert [a["target_token"] for a in exact] == [b["target_token"] for b in coarse]


def _saved(sae: object, folder: Path) -> Path:
    sae.save_model(folder / "sae")  # type: ignore[attr-defined]  (any SAE)
    return folder / "sae"


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq"])
def test_weights_of_few_bits_that_give_other_numbers_are_refused(
    tmp_path: Path, method: str
) -> None:
    folder = tiny.save_model(tmp_path, "llama")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnavailableError, match=f"packed by {method}.*fp8") as caught:
        load_model(str(folder), device="cpu")
    assert "\n" not in str(caught.value)
    with pytest.raises(UnavailableError, match=f"packed by {method}"):
        outline(str(folder), None, torch.float32)


def test_weights_in_8_bits_give_the_oracles_scores(tmp_path: Path) -> None:
    """In FineGrainedFP8, as DeepSeek's and Qwen's are published: a scale for each block."""
    folder = tiny.save_model(tmp_path, "llama")
    weights = load_file(folder / "model.safetensors")
    for name, weight in list(weights.items()):
        if "_proj" in name:
            blocks = weight.unflatten(0, (-1, 16)).unflatten(2, (-1, 16))
            scales = blocks.abs().amax(dim=(1, 3)) / torch.finfo(torch.float8_e4m3fn).max
            packed = (blocks / scales[:, None, :, None]).view_as(weight)
            weights |= {name: packed.to(torch.float8_e4m3fn), f"{name}_scale_inv": scales}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    packing = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [16, 16]}
    config["quantization_config"] = packing
    (folder / "config.json").write_text(json.dumps(config))
    _compare_with_oracle(folder, attention="eager")


@pytest.mark.parametrize("architecture", first_tier(["llama"], [*ATTENTION]))
def test_attention_in_one_kernel_gives_the_oracles_scores(
    model_folder: ModelFolder, tmp_path: Path, architecture: str
) -> None:
    kernel, calls = torch.nn.functional.scaled_dot_product_attention, []

    def counted(*arguments: Any, **named: Any) -> torch.Tensor:
        calls.append(1)
        return kernel(*arguments, **named)

    with patch.object(torch.nn.functional, "scaled_dot_product_attention", counted):
        _compare_with_oracle(model_folder(architecture), attention="sdpa", saved=tmp_path)
    assert calls


def test_attention_whose_scores_are_capped_is_not_for_the_kernel(model_folder: ModelFolder) -> None:
    with pytest.raises(SettingsError, match=r"attention=sdpa is not for .*does not cap") as caught:
        load_model(str(model_folder("gemma2")), device="cpu", attention="sdpa")
    assert "\n" not in str(caught.value)


def _compare_with_oracle(folder: Path, *, attention: str, saved: Path | None = None) -> None:
    sae = tiny.make_sae("topk")
    dictionary = load_sae(str(_saved(sae, saved or folder)))
    oracle = Oracle(str(folder), sae, tiny.HOOK_LAYER)
    model = load_model(str(folder), device="cpu", attention=attention)
    for triple, analysis in zip(
        tiny.triples(2), attribute(model, dictionary, tiny.triples(2)), strict=True
    ):
        answer = oracle(*triple)
        assert answer is not None
        assert analysis["logit_diff"] == pytest.approx(answer.logit_diff, abs=1e-4)
        for feature in analysis["top_features"]:
            expected = float(answer.scores[int(feature["id"])])
            assert abs(feature["score"] - expected) <= 1e-5 * float(answer.scores.abs().max())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("./nowhere", "does not exist"),
        ("a/b/c", "neither a hub name"),
        ("{tmp}", "no readable config.json"),
        ("{tmp}/notes.txt", "not a GGUF file"),
    ],
)
def test_a_name_that_cannot_be_a_model_is_a_settings_error(
    tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(SettingsError, match=words):
        load_model(name.format(tmp=tmp_path))


def test_a_hub_model_that_is_not_cached_is_unavailable_offline() -> None:
    with pytest.raises(UnavailableError, match="nobody/nothing") as caught:
        load_model("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights_is_unavailable(model_folder: ModelFolder, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((model_folder("gpt2") / name).read_bytes())
    with pytest.raises(UnavailableError, match="cannot be loaded"):
        load_model(str(tmp_path))


def test_a_folder_without_a_tokenizer_is_unavailable(
    model_folder: ModelFolder, tmp_path: Path
) -> None:
    """Transformers makes a tokenizer that turns every text into nothing."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((model_folder("gpt2") / name).read_bytes())
    with pytest.raises(UnavailableError, match="no tokenizer"):
        load_model(str(tmp_path))


def test_the_outline_of_a_gguf_file_is_that_of_the_model(tmp_path: Path) -> None:
    path = gguf_files.save(tmp_path, "llama")
    found = outline(str(path), None, torch.float32)
    model = load_model(str(path), device="cpu")
    assert (found.name, found.n_ctx, found.bos_token_id) == (
        model.name,
        model.n_ctx,
        model.bos_token_id,
    )
    plain = load_plain(str(path), None, torch.device("cpu"), torch.float32)
    assert found.parameters == sum(weight.numel() for weight in plain.parameters())
    assert found.tokenizer("a tiny text").input_ids == model.tokenizer("a tiny text").input_ids


def test_an_unknown_hook_point_lists_near_ones(model_folder: ModelFolder) -> None:
    model = load_model(str(model_folder("gpt2")), device="cpu")
    model.check_hook("blocks.3.hook_resid_post")
    with pytest.raises(SettingsError, match=r"blocks\.4\.hook_resid_post.*Near: blocks"):
        model.check_hook("blocks.4.hook_resid_post")


def test_dtype_follows_the_device_unless_named() -> None:
    assert choose_dtype(None, torch.device("cpu")) == torch.float32
    assert choose_dtype(None, torch.device("cuda")) == torch.bfloat16
    assert choose_dtype("float32", torch.device("cuda")) == torch.float32


def test_a_kind_of_device_that_atp_does_not_use_is_unavailable() -> None:
    with pytest.raises(UnavailableError, match="mps"):
        choose_device("mps")


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a device that must not be there")
def test_a_device_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(UnavailableError, match="cuda"):
        choose_device("cuda")


def test_out_of_memory_is_known_on_every_device() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**58)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


@pytest.mark.parametrize("library", ["transformers", "huggingface_hub"])
def test_a_library_says_a_thing_once_and_through_the_log(
    capsys: pytest.CaptureFixture[str], library: str
) -> None:
    configure("0123456789ab")
    quiet_libraries()

    logging.getLogger(f"{library}.part").error("Retrying in 1s")

    assert json.loads(capsys.readouterr().err)["event"] == "Retrying in 1s"


def test_a_folder_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    """Transformers would fill it at random, and only warn."""
    weights = tiny.save_model(tmp_path, "llama") / "model.safetensors"
    tensors = load_file(weights)
    del tensors["model.layers.2.mlp.down_proj.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(UnavailableError, match=r"lack 1 tensors: model\.layers\.2\.mlp\.down_proj"):
        load_model(str(tmp_path), device="cpu")
