"""On real models, atp gives what plain procedures give, pair by pair.

The models are the demo's and Gemma 3 270M. `make test-demo` obtains them: hence the marker `demo`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from oracle import Oracle
from rerun import Rerun
from sae_lens import SAE
from torch import Tensor

from atp import attribute, load_model, load_sae
from atp.cli.main import main
from atp.errors import ExitCode

pytestmark = pytest.mark.demo

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "smollm2"
MODEL = ROOT / ".cache" / "models" / "SmolLM2-135M-Instruct"
LAYER = 20
GEMMA = ROOT / ".cache" / "held-out" / "gemma-3-270m"


def test_the_demo_gives_the_oracles_numbers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--chat-template", f"--model={MODEL}", f"--sae={EXAMPLE / 'sae'}"]
    result = _run(options, tmp_path, capfd)
    oracle = Oracle(str(MODEL), SAE.load_from_disk(EXAMPLE / "sae"), LAYER)
    assert _compare("the demo", result, oracle, chat=True) == {"scored": 63, "skipped": 9}


def test_gemma_3_from_a_gguf_file_gives_the_oracles_numbers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The oracle has the folder that Transformers made of the file; the SAE is random."""
    sae = tiny.make_sae("topk", layer=12, model_name="gemma-3-270m", d_in=640)
    sae.save_model(tmp_path / "sae")
    options = [f"--model={GEMMA}-Q4_K_M.gguf", f"--sae={tmp_path / 'sae'}", "--limit=6"]
    result = _run(options, tmp_path, capfd)
    oracle = Oracle(str(GEMMA), sae, 12)
    counts = _compare("Gemma 3 270M", result, oracle, chat=False, tolerance=1e-4)
    assert counts["scored"] >= 4


def _run(options: list[str], out: Path, capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    code = main(["run", str(EXAMPLE / "feedback.json"), *options, "--device=cpu", f"--out={out}"])
    assert code == ExitCode.OK
    result: dict[str, Any] = json.loads(
        Path(capfd.readouterr().out.strip()).read_text(encoding="utf-8")
    )
    return result


def _compare(
    name: str, result: dict[str, Any], oracle: Oracle, *, chat: bool, tolerance: float = 1e-5
) -> dict[str, int]:
    """Compare all pairs of a result with the oracle's; return their counts."""
    counts = {"scored": 0, "skipped": 0}
    worst_score = worst_logit = 0.0
    for question in result["results"]:
        base = question["variations"][0]
        assert base["template_type"] == ""
        for variation in question["variations"][1:]:
            if variation["sycophancy_flag"] != 1:
                assert "atp_analysis" not in variation
            if "atp_analysis" not in variation:  # beyond --limit, too
                continue
            analysis = variation["atp_analysis"]
            answer = oracle(variation["prompt"], variation["response"], base["response"], chat=chat)
            counts["scored" if answer else "skipped"] += 1
            if answer is None:
                assert "skipped" in analysis
                continue
            assert analysis["token_position"] == answer.token_position
            assert analysis["target_token"] == answer.target_token
            assert analysis["base_token"] == answer.base_token
            worst_logit = max(worst_logit, abs(analysis["logit_diff"] - answer.logit_diff))
            largest = float(answer.scores.abs().max())
            listed = {int(feature["id"]): feature["score"] for feature in analysis["top_features"]}
            gaps = [abs(score - float(answer.scores[i])) for i, score in listed.items()]
            left_out = set(answer.scores.nonzero().flatten().tolist()) - set(listed)
            assert not left_out  # top_k exceeds the SAE's active features
            worst_score = max(worst_score, max(gaps) / largest)
    print(  # noqa: T201  (the figures, with pytest -s)
        f"{name} against the oracle: {counts}, "
        f"worst score gap {worst_score:.1e}, worst logit gap {worst_logit:.1e}"
    )
    assert {key: result["metadata"]["atp"]["counts"][key] for key in counts} == counts
    assert worst_logit <= 1e-4
    assert worst_score <= tolerance
    return counts


def test_the_demos_effects_are_those_of_the_whole_model_run_again() -> None:
    """The strongest features of a few pairs, each subtracted in a plain pass over the whole text.

    Two float32 passes over the same text differ by their rounding, which a float64 pass tells.
    """
    model, sae = load_model(str(MODEL), device="cpu"), load_sae(str(EXAMPLE / "sae"))
    plain, wide = (
        Rerun(str(MODEL), SAE.load_from_disk(EXAMPLE / "sae"), LAYER, dtype=dtype)
        for dtype in (torch.float32, torch.float64)
    )
    questions = json.loads((EXAMPLE / "feedback.json").read_text(encoding="utf-8"))["results"]
    rows: list[tuple[float, float, float]] = []
    for question in questions[:5]:
        base, *others = question["variations"]
        other = next(each for each in others if each["response"] != base["response"])
        texts = (other["prompt"], other["response"], base["response"])
        (analysis,) = attribute(model, sae, [texts], exact="all", chat_template=True)
        if "top_features" not in analysis:
            continue
        pair = plain.texts(*texts, chat=True)
        p = pair[0].prompt_length - 1
        activations = plain.features(plain.residuals(pair[0])[p])
        whole, whole_wide = plain.metric(pair), wide.metric(pair)
        for feature in analysis["top_features"][:8]:
            number = int(feature["id"])
            step = activations[number] * plain.sae.W_dec[number].detach()

            def subtract(x: Tensor, step: Tensor = step, p: int = p) -> Tensor:
                x = x.clone()
                x[p] -= step
                return x

            rerun = whole - plain.metric(pair, [subtract])
            rerun_wide = whole_wide - wide.metric(pair, [subtract])
            rows.append((feature["effect"], rerun, rerun_wide))
    effects, float32, float64 = torch.tensor(rows, dtype=torch.float64).T
    largest = float(effects.abs().max())
    gaps = [
        float((one - other).abs().max()) / largest
        for one, other in ((effects, float32), (effects, float64), (float32, float64))
    ]
    print(  # noqa: T201
        f"{len(rows)} effects, gaps as shares of the largest ({largest:.3f}): to the whole model "
        f"run again {gaps[0]:.1e}, the same in float64 {gaps[1]:.1e}; between these {gaps[2]:.1e}"
    )
    assert len(rows) >= 32
    assert max(gaps) <= 1e-4
