"""The commands on a tiny Qwen3.5, whose layers keep more than keys and values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from oracle import Oracle
from rerun import Ablated
from runs import analyses, events, of, read

from atp import load_sae
from atp.cli.main import main
from atp.errors import ExitCode
from atp.model.language_model import Model

pytestmark = pytest.mark.usefixtures("runs_share_models")

CHOSEN = ("3", "17", "40")


@pytest.fixture
def options(
    model_folder: Callable[[str], Path], sae_folder: Callable[..., Path], tmp_path: Path
) -> list[str]:
    """Options that make a command use the tiny model, its SAE and a folder of the test."""
    return [
        f"--model={model_folder('qwen3_5')}",
        f"--sae={sae_folder('standard')}",
        f"--out={tmp_path / 'out'}",
        "--device=cpu",
        "--batch-tokens=600",
    ]


@pytest.mark.slow
def test_a_run_gives_the_oracles_scores_and_a_check_counts_whole_texts(
    input_file: Path,
    options: list[str],
    model_folder: Callable[[str], Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(["check", str(input_file), *options, "--json"]) == ExitCode.OK
    told = json.loads(capfd.readouterr().out)
    assert told["tokens"]["gradient"] == told["tokens"]["computed"]
    assert "roughly" in told["estimate"]["memory"]["basis"]

    assert main(["run", str(input_file), *options]) == ExitCode.OK
    out, err = capfd.readouterr()
    log = events(err)
    (line,) = of("model.whole_texts", log)
    assert line["layers"] == {"linear_attention": 3, "full_attention": 1}
    done = of("batch.done", log)
    assert len(done) == told["tokens"]["batches"]
    assert sum(each["tokens"] for each in done) <= told["tokens"]["computed"]
    oracle = Oracle(str(model_folder("qwen3_5")), tiny.make_sae("standard"), tiny.HOOK_LAYER)
    for triple, analysis in zip(tiny.triples(), analyses(read(out.strip())), strict=True):
        answer = oracle(*triple)
        assert answer is not None
        for feature in analysis["top_features"]:
            gap = abs(feature["score"] - float(answer.scores[int(feature["id"])]))
            assert gap <= 1e-5 * float(answer.scores.abs().max())


@pytest.mark.slow
def test_features_are_removed_and_answers_written_anew(  # noqa: PLR0913, PLR0917  (fixtures)
    input_file: Path,
    options: list[str],
    model_folder: Callable[[str], Path],
    loaded: Callable[[str], Model],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    model, dictionary = loaded("qwen3_5"), load_sae(options[1].partition("=")[2])
    told: dict[str, Any] = {"name": model.name, **model.origin, "dtype": "float32"}
    chosen = {"selected": list(CHOSEN), "negative": [], "pairs": 15, "features": []}
    content = {
        "metadata": {"atp": {"model": told}},
        "saes": [{"sae": dictionary.describe(), **chosen}],
    }
    path = tmp_path / "features.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    arguments = [str(input_file), *options, f"--features={path}", "--controls=2"]
    assert main(["intervene", *arguments, "--regenerate", "--max-new-tokens=3"]) == ExitCode.OK
    report = read(capfd.readouterr().out.split()[-1])
    plain = Ablated(model_folder("qwen3_5"))
    removals = [(tiny.HOOK_LAYER, dictionary.sae, list(map(int, CHOSEN)))]
    from atp.model.pair_tokenizer import PairTokenizer  # noqa: PLC0415  (imports torch)

    pair_tokenizer = PairTokenizer(model, max_tokens_to_check=20, chat_template=False)
    for found, triple in zip(report["pairs"], tiny.triples(), strict=True):
        contrast = pair_tokenizer(*triple).contrast  # type: ignore[union-attr]
        before = plain.logits(contrast.tokens)[-1]
        with plain.without(removals):
            after = plain.logits(contrast.tokens)[-1]
        t, b = contrast.target_token, contrast.base_token
        assert found["before"] == pytest.approx(float(before[t] - before[b]), abs=1e-4)
        assert found["after"] == pytest.approx(float(after[t] - after[b]), abs=1e-4)
