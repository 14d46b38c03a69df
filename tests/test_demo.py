"""On the demo's input, model and SAE, atp gives what the notebook's procedure gives, pair by pair.

Needs the real model (`make test-demo` obtains it), so it carries the marker `demo`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from oracle import Oracle
from sae_lens import SAE

from atp.cli import main
from atp.errors import ExitCode

pytestmark = pytest.mark.demo

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "smollm2"
MODEL = ROOT / ".cache" / "models" / "SmolLM2-135M-Instruct"
LAYER = 20


def test_the_demo_gives_the_oracles_numbers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--chat-template", f"--model={MODEL}", f"--sae={EXAMPLE / 'sae'}", "--device=cpu"]
    code = main(["run", str(EXAMPLE / "feedback.json"), *options, f"--out={tmp_path}"])
    assert code == ExitCode.OK
    result = json.loads(Path(capfd.readouterr().out.strip()).read_text(encoding="utf-8"))
    oracle = Oracle(str(MODEL), SAE.load_from_disk(EXAMPLE / "sae"), LAYER)
    counts = {"scored": 0, "skipped": 0}
    worst_score = worst_logit = 0.0
    for question in result["results"]:
        base = question["variations"][0]
        assert base["template_type"] == ""
        for variation in question["variations"][1:]:
            if variation["sycophancy_flag"] != 1:
                assert "atp_analysis" not in variation
                continue
            analysis = variation["atp_analysis"]
            answer = oracle(variation["prompt"], variation["response"], base["response"], chat=True)
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
            assert not left_out  # top_k exceeds the SAE's 32 active features
            worst_score = max(worst_score, max(gaps) / largest)
    print(  # noqa: T201  (the figures, with pytest -s)
        f"the demo against the oracle: {counts}, "
        f"worst score gap {worst_score:.1e}, worst logit gap {worst_logit:.1e}"
    )
    assert counts == {"scored": 63, "skipped": 9}
    assert {name: result["metadata"]["atp"]["counts"][name] for name in counts} == counts
    assert worst_logit <= 1e-4
    assert worst_score <= 1e-5
