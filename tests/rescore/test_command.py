"""`atp rescore`: its results are those of a run with the same SAEs, to the byte."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny
from runs import analyses, events, of, read, without_times, write
from tiers import first_tier

from atp.cli.main import main
from atp.errors import ExitCode
from atp.model import loading
from atp.model.pair_tokenizer import TokenizedPair
from atp.run.batch_runner import FAILURES_IN_A_ROW, BatchRunner
from atp.scoring.scorer import CapturedBatch, Scorer

pytestmark = pytest.mark.usefixtures("runs_share_models")

Folder = Callable[[str], Path]
Saes = Callable[..., Path]


class Bench:
    """Runs and rescores in folders of the test: "run" holds the vectors."""

    def __init__(self, folder: Path, path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder, self.input, self.capfd = folder, path, capfd
        self.log: list[dict[str, Any]] = []  # of the last command

    def command(self, *words: str | Path, code: int = ExitCode.OK) -> list[Path]:
        """Run a command, and return the files that it names."""
        assert main(list(map(str, words))) == code, self.capfd.readouterr().err
        out, err = self.capfd.readouterr()
        self.log = events(err)
        return [Path(line) for line in out.splitlines()]

    def run(self, model: Path, *options: str, out: str = "run", code: int = 0) -> list[Path]:
        """Run the model."""
        where = f"--out={self.folder / out}"
        return self.command(
            "run", self.input, f"--model={model}", "--device=cpu", where, *options, code=code
        )

    def keep(self, model: Path, *options: str, code: int = 0) -> list[Path]:
        """Run the model, and keep the vectors."""
        return self.run(model, "--save-vectors=float32", *options, code=code)

    def rescore(self, *options: str, code: int = 0) -> list[Path]:
        """Rescore what was kept."""
        where = f"--out={self.folder / 'rescored'}"
        return self.command("rescore", self.folder / "run", where, *options, code=code)

    @property
    def vectors(self) -> Path:
        """The folder of vectors."""
        (folder,) = (self.folder / "run").glob("atp_vectors_*")
        return folder

    @property
    def refusal(self) -> str:
        """The last line of the log, which says what is wrong."""
        line = self.log[-1]
        assert line["event"] == "atp.failed"
        assert line["hint"]
        return f"{line['message']} {line['hint']}"


@pytest.fixture
def bench(tmp_path: Path, input_file: Path, capfd: pytest.CaptureFixture[str]) -> Bench:
    """Runs and rescores the tiny input."""
    return Bench(tmp_path, input_file, capfd)


def comparable(path: Path) -> bytes:
    """Return the bytes of a result without times, and without its folder."""
    return without_times(path).replace(str(path.parent).encode(), b"FOLDER")


def without_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing load a model from here on."""
    monkeypatch.setattr(loading, "load_model", None)


ARCHITECTURES = ("gpt2", "gemma3", "llama", "gpt_neox", "mamba")


@pytest.mark.parametrize("architecture", first_tier(["gpt2"], ARCHITECTURES))
def test_rescored_is_the_bytes_of_a_run(
    bench: Bench,
    model_folder: Folder,
    sae_folder: Saes,
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
) -> None:
    model, options = model_folder(architecture), ["--top-k=7", "--batch-tokens=400"]
    others = [f"--sae={sae_folder(kind, seed=1)}" for kind in ("topk, layer_norm", "jumprelu")]
    bench.keep(model, f"--sae={sae_folder()}", "--exact=flagged", *options)
    expected = bench.run(model, *others, *options, out="expected")
    without_model(monkeypatch)
    rescored = bench.rescore(*others)
    assert [comparable(path) for path in rescored] == [comparable(path) for path in expected]
    assert len(rescored) == len(others)


@pytest.mark.parametrize(
    "kind",
    first_tier(
        ["jumprelu_skip_transcoder"],
        [*tiny.SAE_KINDS, *tiny.TRANSCODER_KINDS, tiny.CLT_LAYER],
    ),
)
def test_every_kind_of_dictionary_gets_the_bytes_of_a_run(
    bench: Bench, model_folder: Folder, sae_folder: Saes, kind: str
) -> None:
    model, other = model_folder("gpt2"), f"--sae={sae_folder(kind, seed=1)}"
    place = kind if kind == tiny.CLT_LAYER else "standard"
    place = "transcoder" if "transcoder" in kind else place
    bench.keep(model, f"--sae={sae_folder(place)}")
    (rescored,) = bench.rescore(other)
    (expected,) = bench.run(model, other, out="expected")
    assert comparable(rescored) == comparable(expected)


METHODS = {
    "all": ["--position=all", "--top-k=5"],
    "base": ["--baseline=base", "--prompt-activations"],
    "tail, sequence": ["--position=tail", "--metric=sequence", "--sequence-tokens=3"],
    "all, prompt activations": ["--position=all", "--prompt-activations"],
}


@pytest.mark.parametrize("method", first_tier(["all"], METHODS))
def test_positions_and_baselines_are_kept(
    bench: Bench, model_folder: Folder, sae_folder: Saes, method: str
) -> None:
    model, other = model_folder("gpt2"), f"--sae={sae_folder('gated', seed=1)}"
    bench.keep(model, f"--sae={sae_folder()}", *METHODS[method])
    (rescored,) = bench.rescore(other)
    (expected,) = bench.run(model, other, *METHODS[method], out="expected")
    assert comparable(rescored) == comparable(expected)


def test_pairs_without_vectors_have_the_result_of_the_run(
    bench: Bench, model_folder: Folder, sae_folder: Saes
) -> None:
    questions = tiny.questions()
    first, second = questions[0]["variations"][1:3]
    first["response"] = ""  # skipped
    second["prompt"] *= 20  # an error: too long
    questions[1]["variations"][2]["response"] = None  # an error, found as the input is read
    write(bench.input, questions)
    failed = ExitCode.PAIRS_FAILED
    model, others = model_folder("gpt2"), [f"--sae={sae_folder('topk', seed=n)}" for n in (1, 2)]
    bench.keep(model, f"--sae={sae_folder()}", code=failed)
    rescored = bench.rescore(*others, code=failed)
    expected = bench.run(model, *others, out="expected", code=failed)
    assert [comparable(path) for path in rescored] == [comparable(path) for path in expected]
    assert read(rescored[0])["metadata"]["atp"]["counts"]["error"] == 2


@pytest.mark.parametrize("dtype", first_tier(["bfloat16"], ["bfloat16", "float32"]))
def test_vectors_in_bfloat16_are_exact_for_a_model_in_bfloat16(
    bench: Bench, model_folder: Folder, sae_folder: Saes, dtype: str
) -> None:
    model, other = model_folder("llama"), f"--sae={sae_folder('topk', seed=1)}"
    options = [f"--model-dtype={dtype}"]
    bench.run(model, f"--sae={sae_folder()}", *options, "--save-vectors=bfloat16")
    (rescored,) = bench.rescore(other)
    (expected,) = bench.run(model, other, *options, out="expected")
    stated = read(rescored)["metadata"]["atp"].get("rescored")
    if dtype == "bfloat16":
        assert comparable(rescored) == comparable(expected)
        assert stated is None
    else:
        assert comparable(rescored) != comparable(expected)
        assert stated == {"vectors": "bfloat16"}


@pytest.mark.slow
def test_features_and_report_read_the_result(
    bench: Bench, model_folder: Folder, sae_folder: Saes
) -> None:
    bench.keep(model_folder("gpt2"), f"--sae={sae_folder()}")
    (rescored,) = bench.rescore(f"--sae={sae_folder('topk', seed=1)}")
    *_, selected = bench.command("features", rescored.parent)
    assert read(selected)["saes"][0]["selected"]
    (page,) = bench.command("report", rescored.parent)
    assert page.stat().st_size > 10_000


def test_what_fails_or_needs_more_memory_than_there_is_costs_its_pairs_alone(
    bench: Bench, model_folder: Folder, sae_folder: Saes, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, other = model_folder("gpt2"), f"--sae={sae_folder('topk', seed=1)}"
    bench.keep(model, f"--sae={sae_folder()}")
    analyse = Scorer.analyse
    most = FAILURES_IN_A_ROW + 1  # so many pairs fail before the first that does not

    def at_most_one(scorer: Scorer, batches: Sequence[CapturedBatch]) -> Any:
        pairs = [pair for batch in batches for pair in batch.pairs]
        if len(pairs) > 1:
            raise MemoryError
        failed.update(pairs if len(failed) < most else ())
        if pairs[0] in failed:
            msg = "the SAE broke"
            raise ArithmeticError(msg)
        return analyse(scorer, batches)

    failed: set[TokenizedPair] = set()
    monkeypatch.setattr(Scorer, "analyse", at_most_one)
    (rescored,) = bench.rescore(other, code=ExitCode.PAIRS_FAILED)
    errors = [each.get("error") for each in analyses(read(rescored))]
    assert errors.count("ArithmeticError") == most
    assert len(of("model.probed", bench.log)) == 1


# --- refused


def test_a_hook_point_without_vectors_is_refused_by_name(
    bench: Bench, model_folder: Folder, sae_folder: Saes
) -> None:
    bench.keep(model_folder("gpt2"), f"--sae={sae_folder()}", f"--sae={sae_folder('transcoder')}")
    bench.rescore(f"--sae={sae_folder(layer=2)}", code=ExitCode.USAGE)
    assert "no vectors of blocks.2.hook_resid_post" in bench.refusal
    assert "blocks.1.hook_resid_post, blocks.1.hook_mlp_out" in bench.refusal
    assert "without gradients, blocks.1.mlp.hook_in" in bench.refusal


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"d_in": 16}, "gives 32 numbers, the SAE reads 16"),
        ({"model_name": "another"}, "was trained on another"),
    ],
)
def test_an_sae_that_does_not_fit_is_refused(
    bench: Bench, model_folder: Folder, sae_folder: Saes, options: dict[str, Any], reason: str
) -> None:
    bench.keep(model_folder("gpt2"), f"--sae={sae_folder()}")
    bench.rescore(f"--sae={sae_folder(**options)}", code=ExitCode.USAGE)
    assert reason in bench.refusal


def test_what_the_vectors_do_not_allow_is_refused(
    bench: Bench, model_folder: Folder, sae_folder: Saes, tmp_path: Path
) -> None:
    other = f"--sae={sae_folder(seed=1)}"
    bench.command("rescore", tmp_path, other, code=ExitCode.USAGE)
    assert "is no folder of vectors" in bench.refusal
    bench.keep(model_folder("gpt2"), f"--sae={sae_folder()}", "--baseline=mean")
    bench.rescore(code=ExitCode.USAGE)
    assert "no SAE is named" in bench.refusal
    bench.rescore(other, code=ExitCode.USAGE)
    assert "--baseline=mean" in bench.refusal


def test_base_prompts_are_known_only_where_the_run_read(
    bench: Bench, model_folder: Folder, sae_folder: Saes
) -> None:
    other = sae_folder()
    config = read(other / "cfg.json")
    config["metadata"]["hook_name"] = "blocks.1.hook_mlp_out"
    (other / "cfg.json").write_text(json.dumps(config))
    bench.keep(model_folder("gpt2"), f"--sae={sae_folder('transcoder')}", "--baseline=base")
    bench.rescore(f"--sae={other}", code=ExitCode.USAGE)
    assert "no vectors of base prompts at blocks.1.hook_mlp_out" in bench.refusal
    assert "it has those at blocks.1.mlp.hook_in" in bench.refusal


@pytest.mark.slow
def test_another_input_is_refused(
    bench: Bench, model_folder: Folder, sae_folder: Saes, tmp_path: Path
) -> None:
    bench.keep(model_folder("gpt2"), f"--sae={sae_folder()}")
    other = write(tmp_path / "other.json", tiny.questions(4))
    where, sae = f"--out={tmp_path / 'rescored'}", f"--sae={sae_folder(seed=1)}"
    bench.command("rescore", bench.vectors, other, where, sae, code=ExitCode.USAGE)
    assert f"{other} is not the input of {bench.vectors}" in bench.refusal


def test_a_damaged_part_is_named_and_the_run_captures_it_again(
    bench: Bench, model_folder: Folder, sae_folder: Saes
) -> None:
    model, sae = model_folder("gpt2"), f"--sae={sae_folder()}"
    (before,) = bench.keep(model, sae)
    (part,) = bench.vectors.glob("part-*")
    data, result = part.read_bytes(), before.read_bytes()
    part.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    other = f"--sae={sae_folder('topk', seed=1)}"
    bench.rescore(other, code=ExitCode.USAGE)
    assert f"{part} is damaged: its sha256" in bench.refusal
    assert bench.keep(model, sae) == [before]
    assert [line["part"] for line in of("vectors.dropped", bench.log)] == [str(part)]
    assert without_times(before) == b"\n".join(
        line
        for line in result.splitlines()
        if b'"started":' not in line and b'"finished":' not in line
    )
    (again,) = bench.vectors.glob("part-*")
    assert (again.name, again.read_bytes()) == ("part-00001.safetensors", data)
    (rescored,) = bench.rescore(other)
    (expected,) = bench.run(model, other, out="expected")
    assert comparable(rescored) == comparable(expected)


# --- stopped


@pytest.mark.slow
def test_vectors_of_part_of_a_run_give_part_of_a_result(
    bench: Bench, model_folder: Folder, sae_folder: Saes
) -> None:
    model, sae, other = model_folder("gpt2"), f"--sae={sae_folder()}", f"--sae={sae_folder(seed=1)}"
    (result,) = bench.keep(model, sae, "--batch-tokens=200")
    index = bench.vectors / "index.jsonl"
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(lines[0])
    bench.rescore(other, code=ExitCode.PAIRS_FAILED)
    (incomplete,) = of("vectors.incomplete", bench.log)
    assert incomplete["pairs"] == 15
    assert bench.keep(model, sae, "--batch-tokens=200") == [result]
    (rescored,) = bench.rescore(other)
    (expected,) = bench.run(model, other, "--batch-tokens=200", out="expected")
    assert comparable(rescored) == comparable(expected)


def slowly() -> None:
    """Let scoring take its time."""
    score = BatchRunner.score

    def delayed(runner: BatchRunner, parts: Any) -> Any:
        time.sleep(0.05)
        return score(runner, parts)

    BatchRunner.score = delayed  # type: ignore[method-assign]


@pytest.mark.slow
def test_a_stopped_command_resumes(
    bench: Bench, model_folder: Folder, sae_folder: Saes, tmp_path: Path
) -> None:
    model, other = model_folder("gpt2"), f"--sae={sae_folder('topk', seed=1)}"
    bench.keep(model, f"--sae={sae_folder()}", "--batch-tokens=100", "--fresh")
    words = ["rescore", str(tmp_path / "run"), f"--out={tmp_path / 'rescored'}", other]
    with forked.started(words, tmp_path / "child", slowly) as child:
        while child.log.count('"batch.done"') < 2:
            if child.ended(within=0.01) is not None:
                pytest.fail("it ended before it was to be stopped")
        child.send(signal.SIGTERM)
        ended = child.ended()
    assert ended is not None
    assert ended.code == ExitCode.TERMINATED
    (rescored,) = bench.rescore(other)
    assert 0 < of("run.resume", bench.log)[0]["done"] < 15
    (expected,) = bench.run(model, other, "--batch-tokens=100", out="expected")
    assert comparable(rescored) == comparable(expected)
