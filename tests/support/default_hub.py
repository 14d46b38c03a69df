"""A hub cache with the default model and SAE, for a run without options.

The hub client's layout is kept. The model has the architecture, name, width and depth of the real
default, but thin layers. The SAE has its real name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tiny
import torch
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory
from transformers import AutoModelForCausalLM, Gemma2Config

MODEL, RELEASE, SAE_ID = (
    "google/gemma-2-9b-it",
    "gemma-scope-9b-it-res-canonical",
    "layer_31/width_16k/canonical",
)
WIDTH, D_SAE, ALIVE = 3584, 16384, 64
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def make(home: Path) -> Path:
    """Make the cache below `home`, which is to be HF_HOME; returns it."""
    folder = _snapshot(home / "hub", MODEL)
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
    sae_folder = _snapshot(home / "hub", release.repo_id) / release.saes_map[SAE_ID]
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


def model_folder(home: Path) -> Path:
    """Return where the model lies in the cache below `home`."""
    return home / "hub" / _name(MODEL) / "snapshots" / COMMIT


def sae_file(home: Path) -> Path:
    """Return where the SAE's weights lie in the cache below `home`."""
    release = get_pretrained_saes_directory()[RELEASE]
    commit = home / "hub" / _name(release.repo_id) / "snapshots" / COMMIT
    return commit / release.saes_map[SAE_ID] / "params.npz"


def _snapshot(hub: Path, repository: str) -> Path:
    """Make a repository in a hub cache and return the folder of its only commit."""
    root = hub / _name(repository)
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    folder = root / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    return folder


def _name(repository: str) -> str:
    return f"models--{repository.replace('/', '--')}"
