"""`--joint-effect` of real runs of a tiny model is what the plain model loses, pair by pair.

Bounds, float32: the mean over all pairs within 1e-4, the ends of its interval within 1e-3.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tiny
from made_up_scores import of_pair, scored
from rerun import Rerun
from runs import events, read, write

from atp.cli.main import main
from atp.errors import ExitCode
from atp.stats.bootstrap import interval_of_mean

pytestmark = pytest.mark.usefixtures("runs_share_models")
KIND, LAYERS = "jumprelu", (1, 2)
"""Two SAEs of the same weights, on two layers."""
QUICK = ("--joint-effect", "--min-log-ratio=none", "--top-features=3", "--resamples=100")
Score = Callable[..., list[Path]]


@pytest.fixture
def score(
    model_folder: Callable[[str], Path],
    sae_folder: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
) -> Score:
    """Return a function that scores an input and gives the result of each SAE."""
    saes = [sae_folder(KIND, layer=layer) for layer in LAYERS]

    def run(path: Path, *options: str) -> list[Path]:
        parts = [f"--model={model_folder('llama')}", *(f"--sae={sae}" for sae in saes)]
        out = f"--out={path.with_suffix('')}"
        assert main(["run", str(path), *parts, *options, out]) == ExitCode.OK
        return [Path(line) for line in capfd.readouterr().out.splitlines()]

    return run


@dataclass
class Texts:
    """The texts of a scored pair."""

    question: int
    triple: tuple[str, str, str]
    base_prompt: str


def texts_of(files: list[Path]) -> Iterator[Texts]:
    """Yield the scored pairs of some results, whose questions are numbered on."""
    questions = [question for file in files for question in read(file)["results"]]
    for number, question in enumerate(questions):
        base, *others = question["variations"]
        for each in others:
            if "top_features" in each.get("atp_analysis", {}):
                triple = each["prompt"], each["response"], base["response"]
                yield Texts(number, triple, base["prompt"])


def joint_effect(plain: Rerun, pair: Texts, ids: list[int], how: dict[str, str]) -> float:
    """Return what the plain model loses when some features are removed from a pair together."""
    texts = plain.texts(*pair.triple, 20 if "metric" in how else None)
    p = texts[0].prompt_length - 1
    baseline = None
    if "baseline" in how:
        (text,) = plain.texts(pair.base_prompt, *pair.triple[1:])
        baseline = plain.features(plain.residuals(text)[text.prompt_length - 1])
    places = list(range(1, p + 1)) if "position" in how else [p]
    changes = [plain.without(ids, places, baseline)] * len(texts)
    return plain.metric(texts) - plain.metric(texts, changes)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"exact": "flagged", "exact-above": "0.3"}, marks=pytest.mark.slow),
        pytest.param({"exact": "all", "baseline": "base"}, marks=pytest.mark.slow),
        pytest.param({"position": "all", "metric": "sequence"}, marks=pytest.mark.slow),
        {"baseline": "mean", "limit": "3"},  # pairs of one question: its base prompt is the mean
    ],
    ids=lambda how: " ".join(how.values()),
)
def test_it_is_what_the_plain_model_loses_without_the_selected_features(
    tmp_path: Path,
    model_folder: Callable[[str], Path],
    score: Score,
    capfd: pytest.CaptureFixture[str],
    how: dict[str, str],
) -> None:
    questions = tiny.questions()
    inputs = [write(tmp_path / "1.json", questions[:2]), write(tmp_path / "2.json", questions[2:])]
    options = [f"--{name}={value}" for name, value in how.items()]
    # All features that are active are listed, so `mean_best` misses none.
    files = [score(path, *options, f"--top-k={tiny.D_SAE}") for path in inputs]

    results = [str(file) for of_input in files for file in of_input]
    assert main(["features", *results, *QUICK, f"--out={tmp_path / 'out'}"]) == ExitCode.OK

    content = read(capfd.readouterr().out.splitlines()[-1])
    for found, layer, of_sae in zip(content["saes"], LAYERS, zip(*files, strict=True), strict=True):
        pairs = list(texts_of(list(of_sae)))
        ids = list(map(int, found["selected"]))
        plain = Rerun(str(model_folder("llama")), tiny.make_sae(KIND, layer=layer), layer)
        rows = scored(of_sae)
        wanted = {
            "effect": [joint_effect(plain, pair, ids, how) for pair in pairs],
            "sum_of_single": [sum(of_pair(row, i, "best") for i in ids) for row in rows],
        }
        of_pairs = np.array([pair.question for pair in pairs])
        joint = found["joint"]
        assert len(ids) == 3
        assert joint["pairs"] == len(pairs) == len(rows)
        assert (joint["questions"], joint["left_out"]) == (len(set(of_pairs)), 0)
        assert np.mean(wanted["effect"]) != pytest.approx(
            np.mean(wanted["sum_of_single"]), rel=0.01
        )
        for name, numbers in wanted.items():
            limits = interval_of_mean(np.array([numbers]), of_pairs, 0)
            assert joint[f"mean_{name}"] == pytest.approx(np.mean(numbers), abs=1e-4)
            assert joint[f"{name}_interval"] == pytest.approx(limits, abs=1e-3)
        if "exact-above" in how:
            ranked_by = {each["ranked_by"] for row in rows for each in row["top_features"]}
            assert ranked_by == {"effect", "score"}


@pytest.mark.parametrize("changed", ["input", "SAE", "model"])
def test_what_is_not_as_it_was_scored_is_refused_in_one_line(
    tmp_path: Path,
    input_file: Path,
    score: Score,
    capfd: pytest.CaptureFixture[str],
    changed: str,
) -> None:
    file, _ = score(input_file)
    if changed == "input":
        write(input_file, tiny.questions(4))
    else:
        content = read(file)
        content["metadata"]["atp"][changed.lower()]["sha256"] = "0" * 64
        file.write_text(json.dumps(content), encoding="utf-8")

    out = tmp_path / "out"
    assert main(["features", str(file), *QUICK, f"--out={out}"]) == ExitCode.USAGE

    *_, line = events(capfd.readouterr().err)
    assert line["event"] == "atp.failed"
    assert f"{file}: the {changed} is not the one that was scored" in line["message"]
    assert "--joint-effect" in line["hint"]
    assert not list(out.glob("atp_*"))
