"""A dictionary of every format in SAELens' registry, from the hub cache to the oracle's scores.

A case is an entry of the registry: its repository, as published.py lays it out in a cache, and a
tiny random model of its family under the name of the real one. All code between is the real one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plain_places
import published
import pytest
import tiny
import torch
from elsewhere import Elsewhere
from huggingface_hub import constants
from published import Published
from runs import analyses, read
from sae_lens.loading.pretrained_sae_loaders import NAMED_PRETRAINED_SAE_LOADERS
from sae_lens.loading.pretrained_saes_directory import (
    get_norm_scaling_factor,
    get_pretrained_saes_directory,
)
from tiers import first_tier
from torch import Tensor

from atp import attribute
from atp.cli.main import main
from atp.errors import ExitCode
from atp.model.dictionaries.files import files_of
from atp.model.dictionaries.names import published_at

BOUND, DEEP_BOUND, EFFECT_BOUND = 1e-5, 3e-5, 1e-4
DEEP = 10
"""Layers of a random model after which float32 rounds the stream, which grows, more coarsely."""
TRIPLES = tiny.triples(1)[1:]
REGISTRY = get_pretrained_saes_directory()


def centred(x: Tensor) -> Tensor:
    """Return the stream of a model with centred weights."""
    return x - x.mean(dim=-1, keepdim=True)


def normalised(x: Tensor) -> Tensor:
    """Return what an RMS norm makes of the stream before its weights."""
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6)


@dataclass(frozen=True)
class Case:
    """An entry of the registry, and where it is in the plain model."""

    spec: str
    model: str
    architecture: str
    make: Callable[[str], Published]
    """From the entry's path in its repository."""
    reads: str
    """A hook point, by its meaning in transformer_lens."""
    writes: tuple[str, ...] = ()
    view: Callable[[Tensor], Tensor] = lambda x: x
    layers: int = tiny.N_LAYERS

    @property
    def release(self) -> str:
        """The release, or the repository of one that the registry lacks."""
        return self.spec.partition(":")[0]

    @property
    def sae_id(self) -> str:
        """The entry of the release."""
        return self.spec.partition(":")[2]

    @property
    def repository(self) -> str:
        """The repository on the hub."""
        return REGISTRY[self.release].repo_id if self.release in REGISTRY else self.release

    @property
    def path(self) -> str:
        """The path in the repository."""
        if self.release in REGISTRY:
            return REGISTRY[self.release].saes_map[self.sae_id]
        return self.sae_id

    @property
    def scale(self) -> float:
        """What the registry says that inputs are multiplied by."""
        return get_norm_scaling_factor(self.release, self.sae_id) or 1.0

    def place(self, hook_name: str) -> str:
        """Return the name of a Place of the plain model."""
        if hook_name == "hook_embed":
            return "0.input"
        return plain_places.place(self.architecture, hook_name)


def gemma_scope(
    release: str, sae_id: str, reads: str, writes: tuple[str, ...] = (), **more: Any
) -> Case:
    """Return a case of Gemma Scope."""
    spec = f"gemma-scope-2b-pt-{release}:{sae_id}"
    make = published.gemma_scope
    return Case(spec, "google/gemma-2-2b", "gemma2", make, reads, writes, **more)


def gemma_scope_2(  # noqa: PLR0913, PLR0917  (what differs)
    size: str,
    release: str,
    sae_id: str,
    reads: str,
    writes: str = "",
    config: dict[str, Any] | None = None,
    architecture: str = "gemma3",
) -> Case:
    """Return a case of Gemma Scope 2."""
    spec = f"gemma-scope-2-{size}-{release}-all:{sae_id}"
    model = f"google/gemma-3-{size}".replace("270m-pt", "270m")

    def make(path: str) -> Published:
        return published.gemma_scope_2(path, config)

    return Case(spec, model, architecture, make, reads, (writes,) if writes else ())


def of_modules(model: str, read: str, written: str = "", **more: Any) -> dict[str, Any]:
    """Return a config.json of Gemma Scope 2."""
    config = {"model_name": model, "hf_hook_point_in": read, **more}
    return config | ({"hf_hook_point_out": written} if written else {})


def llama_scope(release: str, sae_id: str, reads: str) -> Case:
    """Return a case of Llama Scope."""

    def make(path: str) -> Published:
        return published.llama_scope(path, reads, case.scale)

    case = Case(f"{release}:{sae_id}", "meta-llama/Llama-3.1-8B", "llama", make, reads)
    return case


def dictionary_learning(
    spec: str, model: str, architecture: str, kind: str, layers: int = tiny.N_LAYERS
) -> Case:
    """Return a case of the library dictionary_learning, of layer 3."""
    layer = 3

    def make(path: str) -> Published:
        return published.dictionary_learning(path, kind, model, layer)

    reads = f"blocks.{layer}.hook_resid_post"
    return Case(spec, model, architecture, make, reads, layers=layers)


def sae_lens(spec: str, model: str, architecture: str, reads: str, **settings: Any) -> Case:
    """Return a case of SAELens' own format."""
    view = settings.pop("view", lambda x: x)
    layers = settings.pop("layers", tiny.N_LAYERS)
    settings = {"hook_name": reads, "model_name": model.partition("/")[2], **settings}

    def make(path: str) -> Published:
        return published.sae_lens(path, case.scale, **settings)

    case = Case(spec, model, architecture, make, reads, view=view, layers=layers)
    return case


R1 = "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"
MLP_OUT = "blocks.1.hook_mlp_out"
LATER_MLPS = tuple(f"blocks.{layer}.hook_mlp_out" for layer in range(1, tiny.N_LAYERS))
CANONICAL = "layer_1/width_16k/canonical"
BIG = "layer_1_width_16k_l0_big"
BEFORE, AFTER = "pre_feedforward_layernorm.output", "post_feedforward_layernorm.output"
CASES = {
    "gemma_2 residual": gemma_scope("res-canonical", CANONICAL, "blocks.1.hook_resid_post"),
    "gemma_2 mlp": gemma_scope("mlp-canonical", CANONICAL, MLP_OUT),
    "gemma_2 attention": gemma_scope("att-canonical", CANONICAL, "blocks.1.attn.hook_z"),
    "gemma_2 embedding": gemma_scope("res", "embedding/width_4k/average_l0_6", "hook_embed"),
    "gemma_2_transcoder": gemma_scope(
        "transcoders",
        "layer_1/width_16k/average_l0_65",
        "blocks.1.ln2.hook_normalized",
        (MLP_OUT,),
        view=normalised,
    ),
    "gemma_3 residual": gemma_scope_2("270m-pt", "res", BIG, "blocks.1.hook_resid_post"),
    "gemma_3 mlp": gemma_scope_2("270m-it", "mlp", BIG, MLP_OUT),
    "gemma_3 attention": gemma_scope_2("270m-it", "att", BIG, "blocks.1.attn.hook_z"),
    "gemma_3 transcoder": gemma_scope_2(
        "1b-pt", "transcoders", BIG, "blocks.1.mlp.hook_in", MLP_OUT
    ),
    "gemma_3 affine transcoder": gemma_scope_2(
        "1b-pt", "transcoders", f"{BIG}_affine", "blocks.1.mlp.hook_in", MLP_OUT
    ),
    "gemma_3 residual, multimodal, config.json": gemma_scope_2(
        "12b-it",
        "res",
        BIG,
        "blocks.1.hook_resid_post",
        config=of_modules("gemma-v3-12b-it", "model.language_model.layers.1.output"),
        architecture="gemma3_multimodal",
    ),
    "gemma_3 mlp, config.json": gemma_scope_2(
        "1b-it",
        "mlp",
        BIG,
        MLP_OUT,
        config=of_modules("gemma-v3-1b-it", f"model.layers.1.{AFTER}"),
    ),
    "gemma_3 attention, multimodal, config.json": gemma_scope_2(
        "4b-it",
        "att",
        BIG,
        "blocks.1.attn.hook_z",
        config=of_modules("gemma-v3-4b-it", "model.layers.1.self_attn.o_proj.input"),
        architecture="gemma3_multimodal",
    ),
    "gemma_3 transcoder, multimodal, config.json": gemma_scope_2(
        "4b-pt",
        "transcoders",
        BIG,
        "blocks.1.mlp.hook_in",
        MLP_OUT,
        config=of_modules("gemma-v3-4b-pt", f"model.layers.1.{BEFORE}", f"model.layers.1.{AFTER}"),
        architecture="gemma3_multimodal",
    ),
    "gemma_3 affine transcoder, multimodal, config.json": gemma_scope_2(
        "27b-it",
        "transcoders",
        f"{BIG}_affine",
        "blocks.1.mlp.hook_in",
        MLP_OUT,
        config=of_modules(
            "gemma-v3-27b-it",
            f"model.language_model.layers.1.{BEFORE}",
            f"model.language_model.layers.1.{AFTER}",
            affine_connection=True,
        ),
        architecture="gemma3_multimodal",
    ),
    "llama_scope residual": llama_scope(
        "llama_scope_lxr_32x", "l1r_32x", "blocks.1.hook_resid_post"
    ),
    "llama_scope attention": llama_scope("llama_scope_lxa_8x", "l1a_8x", "blocks.1.hook_attn_out"),
    "llama_scope mlp": llama_scope("llama_scope_lxm_8x", "l1m_8x", MLP_OUT),
    "llama_scope_r1_distill": Case(
        "llama_scope_r1_distill:l1r_800m_slimpajama",
        R1,
        "llama",
        lambda path: published.llama_scope_r1(
            path,
            "blocks.1.hook_resid_post",
            CASES["llama_scope_r1_distill"].scale,
        ),
        "blocks.1.hook_resid_post",
    ),
    "dictionary_learning_1 standard": dictionary_learning(
        "sae_bench_pythia70m_sweep_standard_ctx128_0712:blocks.3.hook_resid_post__trainer_10",
        "EleutherAI/pythia-70m-deduped",
        "gpt_neox",
        "AutoEncoder",
        layers=6,
    ),
    "dictionary_learning_1 topk": dictionary_learning(
        "sae_bench_pythia70m_sweep_topk_ctx128_0730:blocks.3.hook_resid_post__trainer_0",
        "EleutherAI/pythia-70m-deduped",
        "gpt_neox",
        "AutoEncoderTopK",
        layers=6,
    ),
    "dictionary_learning_1 gated": dictionary_learning(
        "sae_bench_pythia70m_sweep_gated_ctx128_0730:blocks.3.hook_resid_post__trainer_0",
        "EleutherAI/pythia-70m-deduped",
        "gpt_neox",
        "GatedAutoEncoder",
        layers=6,
    ),
    "dictionary_learning_1 jumprelu": dictionary_learning(
        "sae_bench_gemma-2-2b_topk_width-2pow12_date-1109:blocks.12.hook_resid_post__trainer_0",
        "google/gemma-2-2b",
        "gemma2",
        "JumpReluAutoEncoder",
    ),
    "dictionary_learning_1 batch topk, llama": dictionary_learning(
        "llama-3.1-8b-instruct-andyrdt:resid_post_layer_3_trainer_1",
        "meta-llama/Llama-3.1-8B-Instruct",
        "llama",
        "BatchTopKSAE",
        layers=6,
    ),
    "dictionary_learning_1 batch topk, qwen2": dictionary_learning(
        "qwen2.5-7b-instruct-andyrdt:resid_post_layer_3_trainer_1",
        "Qwen/Qwen2.5-7B-Instruct",
        "qwen2",
        "BatchTopKSAE",
    ),
    "dictionary_learning_1 batch topk, gpt_oss": dictionary_learning(
        "gpt-oss-20b-andyrdt:resid_post_layer_3_trainer_0",
        "openai/gpt-oss-20b",
        "gpt_oss",
        "BatchTopKSAE",
    ),
    "goodfire": Case(
        "goodfire-llama-3.1-8b-instruct:layer_19",
        "meta-llama/Llama-3.1-8B-Instruct",
        "llama",
        published.goodfire,
        "blocks.19.hook_resid_post",
        layers=21,
    ),
    "deepseek_r1": Case(
        "deepseek-r1-distill-llama-8b-qresearch:blocks.19.hook_resid_post",
        R1,
        "llama",
        published.deepseek_r1,
        "blocks.19.hook_resid_post",
        layers=21,
    ),
    "qwen_scope": Case(
        "qwen-scope-3-1.7b-base-w32k-l50:layer1",
        "Qwen/Qwen3-1.7B-Base",
        "qwen3",
        lambda path: published.qwen_scope(path, 50),
        "blocks.1.hook_resid_post",
    ),
    "qwen_scope, experts": Case(
        "qwen-scope-3-30b-a3b-base-w32k-l50:layer1",
        "Qwen/Qwen3-30B-A3B-Base",
        "qwen3_moe",
        lambda path: published.qwen_scope(path, 50),
        "blocks.1.hook_resid_post",
    ),
    "qwen_scope, hybrid": Case(
        "qwen-scope-3.5-2b-base-w32k-l50:layer1",
        "Qwen/Qwen3.5-2B-Base",
        "qwen3_5",
        lambda path: published.qwen_scope(path, 50),
        "blocks.1.hook_resid_post",
    ),
    "connor_rob_hook_z": Case(
        "gpt2-small-hook-z-kk:blocks.1.hook_z",
        "openai-community/gpt2",
        "gpt2",
        lambda path: published.kissane(path, "blocks.1.attn.hook_z"),
        "blocks.1.attn.hook_z",
    ),
    "mwhanna_transcoder": Case(
        "mwhanna-qwen3-4b-transcoders:layer_1",
        "Qwen/Qwen3-4B",
        "qwen3",
        lambda path: published.hanna(path, "Qwen/Qwen3-4B"),
        "blocks.1.mlp.hook_in",
        (MLP_OUT,),
    ),
    "mwhanna_transcoder, no config.yaml": Case(
        "mwhanna-qwen3-14b-transcoders-lowl0:layer_1",
        "Qwen/Qwen3-14B",
        "qwen3",
        lambda path: published.hanna(path, "", with_config=False),
        "blocks.1.mlp.hook_in",
        (MLP_OUT,),
    ),
    "mntss_clt_layer_transcoder": Case(
        "mntss-gemma-2-2b-2.5m-clt-as-per-layer:layer_1",
        "google/gemma-2-2b",
        "gemma2",
        lambda path: published.cross_layer(int(path), tiny.N_LAYERS, "hook_resid_mid"),
        "blocks.1.hook_resid_mid",
        LATER_MLPS,
    ),
    "mntss_clt_layer_transcoder, of the norm's output": Case(
        "mntss-gemma-2-2b-2.5m-clt-as-per-layer:layer_2",
        "google/gemma-2-2b",
        "gemma2",
        lambda path: published.cross_layer(int(path), tiny.N_LAYERS, "mlp.hook_in"),
        "blocks.2.mlp.hook_in",
        LATER_MLPS[1:],
    ),
    "sae_lens, centred weights": sae_lens(
        "gpt2-small-res-jb:blocks.1.hook_resid_pre",
        "openai-community/gpt2",
        "gpt2",
        "blocks.1.hook_resid_pre",
        view=centred,
    ),
    "sae_lens, centred weights, normalised on average": sae_lens(
        "gpt2-small-mlp-tm:blocks.1.hook_mlp_out",
        "openai-community/gpt2",
        "gpt2",
        MLP_OUT,
        view=centred,
        normalize_activations="expected_average_only_in",
    ),
    "sae_lens, topk, layer norm": sae_lens(
        "gpt2-small-resid-mid-v5-32k:blocks.1.hook_resid_mid",
        "openai-community/gpt2",
        "gpt2",
        "blocks.1.hook_resid_mid",
        activation_fn_str="topk",
        activation_fn_kwargs={"k": 32},
        normalize_activations="layer_norm",
    ),
    "sae_lens, constant norm": sae_lens(
        "mistral-7b-res-wg:blocks.8.hook_resid_pre",
        "mistralai/Mistral-7B-v0.1",
        "mistral",
        "blocks.8.hook_resid_pre",
        normalize_activations="constant_norm_rescale",
        layers=10,
    ),
    "sae_lens, pythia attention": sae_lens(
        "pythia-70m-deduped-att-sm:blocks.1.hook_attn_out",
        "EleutherAI/pythia-70m-deduped",
        "gpt_neox",
        "blocks.1.hook_attn_out",
    ),
    "sae_lens, gemma": sae_lens(
        "gemma-2b-res-jb:blocks.0.hook_resid_post",
        "google/gemma-2b",
        "gemma",
        "blocks.0.hook_resid_post",
    ),
    "sae_lens, own repository": sae_lens(
        "owner/saes:layer_1/small", "owner/model", "phi3", "blocks.1.hook_resid_post"
    ),
}
QUICK = [
    "gemma_3 residual",
    "gemma_3 affine transcoder, multimodal, config.json",
    "dictionary_learning_1 batch topk, gpt_oss",
    "mntss_clt_layer_transcoder",
    "sae_lens, centred weights, normalised on average",
]


@pytest.fixture
def ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[Case, Elsewhere]]:
    """Return a function that puts a case into a hub cache, and gives its oracle."""

    def get(name: str) -> tuple[Case, Elsewhere]:
        case = CASES[name]
        made = case.make(case.path)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        published.put(tmp_path, case.repository, made.files)
        if made.sizes:  # the loader knows those of the real one: gigabytes
            listed = REGISTRY[case.release]
            overrides = {**(listed.config_overrides or {}), **made.sizes}
            monkeypatch.setattr(listed, "config_overrides", overrides)
        folder = published.put(tmp_path, case.model, {})
        tiny.save_model(folder, case.architecture, random_norms=True, layers=case.layers)
        writes = [case.place(each) for each in case.writes or (case.reads,)]
        reads = case.place(case.reads)
        return case, Elsewhere(str(folder), made.formulas, reads, writes, case.view)

    return get


@pytest.mark.parametrize("name", first_tier(QUICK, CASES))
def test_its_scores_and_effects_are_the_oracles(
    ready: Callable[[str], tuple[Case, Elsewhere]], name: str
) -> None:
    case, oracle = ready(name)
    result = attribute(case.model, case.spec, TRIPLES, exact="all", top_k=3, progress=False)

    for number, triple in enumerate(TRIPLES):
        answer = oracle(*triple)
        assert answer is not None
        largest = answer.scores.abs().max()
        assert largest > 0
        assert (answer.activations > 0).any()
        assert (answer.activations == 0).any()
        assert result[number]["logit_diff"] == pytest.approx(answer.logit_diff, abs=1e-4)
        bound = DEEP_BOUND if case.layers > DEEP else BOUND
        assert (result.scores[number] - answer.scores).abs().max() <= bound * largest
        listed_features = result[number]["top_features"]
        texts = oracle.texts(*triple)
        effects = [oracle.effect(texts, [int(each["id"])]) for each in listed_features]
        gaps = [
            each["effect"] - effect for each, effect in zip(listed_features, effects, strict=True)
        ]
        assert max(map(abs, gaps)) <= EFFECT_BOUND * max(1, *map(abs, effects))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["mntss_clt_layer_transcoder", "gemma_3 affine transcoder", "llama_scope_r1_distill"],
)
def test_a_run_writes_the_oracles_numbers(
    ready: Callable[[str], tuple[Case, Elsewhere]],
    name: str,
    input_file: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    case, oracle = ready(name)
    names = [f"--model={case.model}", f"--sae={case.spec}"]
    assert main(["run", str(input_file), *names, f"--out={tmp_path / 'out'}"]) == ExitCode.OK
    result = read(capfd.readouterr().out.strip())
    sae = result["metadata"]["atp"]["sae"]
    assert sae["hook_name"] == case.reads
    assert tuple(sae.get("writes", ())) == case.writes
    for triple, analysis in zip(tiny.triples(), analyses(result), strict=True):
        answer = oracle(*triple)
        assert answer is not None
        largest = answer.scores.abs().max()
        best = answer.scores.abs().topk(1).indices
        assert int(analysis["top_features"][0]["id"]) == int(best)
        for feature in analysis["top_features"]:
            expected = answer.scores[int(feature["id"])]
            assert abs(feature["score"] - expected) <= BOUND * largest


@pytest.mark.parametrize("name", CASES)
def test_its_files_are_those_that_a_fetch_takes(name: str) -> None:
    case = CASES[name]
    files = case.make(case.path).files
    place = published_at(case.spec)
    assert place is not None
    assert place.repository == case.repository
    assert sorted(files_of(place, files.__contains__)) == sorted(files)


def test_every_loader_has_a_case_but_two() -> None:
    """A temporal SAE is refused; no entry of the registry is in the format of Sparsify."""
    used = {release.conversion_func or "sae_lens" for release in REGISTRY.values()}
    assert used == set(NAMED_PRETRAINED_SAE_LOADERS) - {"sparsify"}
    tried = {name.partition(",")[0].partition(" ")[0] for name in CASES}
    assert tried == used - {"temporal"}
