"""`atp run INPUT`, no option given, runs offline from the hub cache, through the real loading code.

default_hub.py makes the cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import default_hub
import numpy as np
import pytest
import tiny
import torch
from default_hub import COMMIT, D_SAE, MODEL, RELEASE, SAE_ID, WIDTH
from oracle import Oracle
from sae_lens import SAE

BOUND = 3e-5
"""Of the largest score. These are float32 sums of 3,584 numbers through 42 layers: in the order of
another kind of CPU, a run and the oracle were 1.07e-5 apart."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache that holds the default model and its SAE."""
    return default_hub.make(tmp_path_factory.mktemp("hf"))


@pytest.mark.slow
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

    with np.load(default_hub.sae_file(hub)) as arrays:
        weights = {name: torch.tensor(value).float() for name, value in arrays.items()}
    sae = SAE.from_dict(
        {"architecture": "jumprelu", "d_in": WIDTH, "d_sae": D_SAE, "apply_b_dec_to_input": False}
    )
    sae.load_state_dict(weights)
    oracle = Oracle(str(default_hub.model_folder(hub)), sae, 31)
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
