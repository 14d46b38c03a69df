"""`atp run INPUT`, no option given, runs offline from the hub cache, through the real loading code.

The cache is laid out as the hub client lays it out; the model has Gemma 2's features and the width,
depth and name of the real default, with layers made thin; the SAE stands under its real name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from oracle import Oracle
from sae_lens import SAE
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory
from transformers import AutoModelForCausalLM, Gemma2Config

MODEL, RELEASE, SAE_ID = (
    "google/gemma-2-9b-it",
    "gemma-scope-9b-it-res-canonical",
    "layer_31/width_16k/canonical",
)
WIDTH, D_SAE, ALIVE = 3584, 16384, 64
BOUND = 3e-5
"""Of the largest score. These are float32 sums of 3,584 numbers through 42 layers: in the order of
another kind of CPU, a run and the oracle were 1.07e-5 apart."""
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def snapshot(hub: Path, repository: str) -> Path:
    """Make a repository in a hub cache and return the folder of its only commit."""
    root = hub / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    folder = root / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache that holds the default model and its SAE."""
    home = tmp_path_factory.mktemp("hf")
    folder = snapshot(home / "hub", MODEL)
    config = Gemma2Config(
        hidden_size=WIDTH,
        num_hidden_layers=42,
        intermediate_size=16,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=16,
        vocab_size=tiny.VOCABULARY,
        max_position_embeddings=tiny.N_CTX,
        initializer_range=0.05,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)

    release = get_pretrained_saes_directory()[RELEASE]
    sae_folder = snapshot(home / "hub", release.repo_id) / release.saes_map[SAE_ID]
    sae_folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    encoder, decoder = np.zeros((WIDTH, D_SAE), np.float16), np.zeros((D_SAE, WIDTH), np.float16)
    encoder[:, :ALIVE] = rng.normal(size=(WIDTH, ALIVE)) / 8
    decoder[:ALIVE] = rng.normal(size=(ALIVE, WIDTH)) / 8
    np.savez_compressed(
        sae_folder / "params.npz",
        W_enc=encoder,
        W_dec=decoder,
        b_enc=np.zeros(D_SAE, np.float32),
        b_dec=rng.normal(size=WIDTH).astype(np.float32) / 10,
        threshold=np.full(D_SAE, 0.5, np.float32),
    )
    return home


def test_the_defaults_run_offline_and_give_the_oracles_numbers(
    hub: Path, input_file: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "HF_HOME": str(hub), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-m", "atp", "run", str(input_file)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    path = tmp_path / done.stdout.strip()
    assert path.parent == tmp_path / "results" / "feedback"
    result = json.loads(path.read_text(encoding="utf-8"))
    run = result["metadata"]["atp"]
    assert run["model"]["name"] == MODEL
    assert run["model"]["revision"] == COMMIT
    assert run["sae"]["spec"] == f"{RELEASE}:{SAE_ID}"
    assert run["sae"]["architecture"] == "jumprelu"
    assert len(run["sae"]["sha256"]) == len("0" * 64)
    assert run["counts"]["scored"] == len(tiny.triples())

    release = get_pretrained_saes_directory()[RELEASE]
    cached = hub / "hub" / f"models--{release.repo_id.replace('/', '--')}" / "snapshots" / COMMIT
    with np.load(cached / release.saes_map[SAE_ID] / "params.npz") as arrays:
        weights = {name: torch.tensor(value).float() for name, value in arrays.items()}
    sae = SAE.from_dict(
        {"architecture": "jumprelu", "d_in": WIDTH, "d_sae": D_SAE, "apply_b_dec_to_input": False}
    )
    sae.load_state_dict(weights)
    folder = hub / "hub" / f"models--{MODEL.replace('/', '--')}" / "snapshots" / COMMIT
    oracle = Oracle(str(folder), sae, layer=31)
    analyses = [
        variation["atp_analysis"]
        for question in result["results"]
        for variation in question["variations"][1:]
    ]
    for triple, analysis in list(zip(tiny.triples(), analyses, strict=True))[:4]:
        answer = oracle(*triple)
        assert answer is not None
        assert analysis["token_position"] == answer.token_position
        assert analysis["logit_diff"] == pytest.approx(answer.logit_diff, abs=1e-4)
        largest = float(answer.scores.abs().max())
        assert largest > 0
        for feature in analysis["top_features"]:
            expected = float(answer.scores[int(feature["id"])])
            assert abs(feature["score"] - expected) <= BOUND * largest
