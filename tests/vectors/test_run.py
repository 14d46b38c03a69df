"""`atp run --save-vectors`: what is kept, and that a run which is killed keeps the same."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import forked
import pytest
from disk import files_limited_to
from kept_vectors import batches, numbers
from runs import events, of

from atp.cli.main import main
from atp.errors import ExitCode
from atp.vectors import writer
from atp.vectors.reader import Vectors

pytestmark = pytest.mark.usefixtures("runs_share_models")


@pytest.fixture
def words(
    model_folder: Callable[[str], Path], sae_folder: Callable[..., Path], input_file: Path
) -> list[str]:
    """A command that keeps the vectors of small batches; its --out is missing."""
    model, sae = f"--model={model_folder('gpt2')}", f"--sae={sae_folder()}"
    small = ["--batch-tokens=100", "--save-interval=1"]
    return ["run", str(input_file), model, sae, "--device=cpu", "--save-vectors=float32", *small]


@pytest.fixture
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PART_PAIRS", 3)


@pytest.mark.slow
@pytest.mark.usefixtures("_small_parts")
def test_a_killed_run_keeps_the_vectors_of_an_uninterrupted_one(
    words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*words, f"--out={whole}"]) == ExitCode.OK
    with forked.started([*words, f"--out={killed}"], tmp_path / "child") as child:
        while child.log.count('"batch.done"') < 4:
            if child.ended(within=0.01) is not None:
                pytest.fail("it ended before it was to be killed")
        child.send(signal.SIGKILL)
        child.ended()
    kept = Vectors.open(killed).pairs()
    capfd.readouterr()
    assert main([*words, f"--out={killed}"]) == ExitCode.OK
    log = events(capfd.readouterr().err)
    computed = sum(line["pairs"] for line in of("batch.done", log))
    assert computed < 15
    assert computed + len(kept) == 15  # nothing that is kept is computed again
    assert list(numbers(batches(killed))) == list(numbers(batches(whole)))


@pytest.mark.slow
def test_vectors_are_captured_for_a_run_that_ended_without_them(
    words: list[str], tmp_path: Path
) -> None:
    out = f"--out={tmp_path / 'out'}"
    plain = [word for word in words if not word.startswith("--save-vectors")]
    assert main([*plain, out]) == ExitCode.OK
    assert main([*words, out]) == ExitCode.OK
    assert sum(len(keyed.keys) for keyed in batches(tmp_path / "out")) == 15
    assert len(list((tmp_path / "out").glob("atp_results_*.json"))) == 1


@pytest.mark.slow
def test_vectors_of_another_type_are_refused(
    words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = f"--out={tmp_path / 'out'}"
    assert main([*words, out]) == ExitCode.OK
    capfd.readouterr()
    narrow = [word.replace("float32", "bfloat16") for word in words]
    assert main([*narrow, out]) == ExitCode.USAGE
    line = events(capfd.readouterr().err)[-1]
    assert "vectors in float32, --save-vectors asks for bfloat16" in line["message"]


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_line_of_the_index_that_is_damaged_costs_its_pairs_only(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(writer, "PART_PAIRS", 3)
    out = tmp_path / "out"
    assert main([*words, f"--out={out}"]) == ExitCode.OK
    before = list(numbers(batches(out)))
    index = Vectors.open(out).folder / "index.jsonl"
    lines = index.read_bytes().splitlines(keepends=True)
    lines[-1] = lines[-1][:-9] if damage == "cut" else lines[-1].replace(b"part", b"tarp")
    index.write_bytes(b"".join(lines))
    assert len(batches(out)) < len(before)
    assert main([*words, f"--out={out}"]) == ExitCode.OK
    assert list(numbers(batches(out))) == before


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_the_next_start_completes_it(
    words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    words += ["--position=all", "--top-k=1"]  # the part is the largest file of the run
    assert main([*words, f"--out={whole}"]) == ExitCode.OK
    (part,) = Vectors.open(whole).folder.glob("part-*")
    capfd.readouterr()
    with files_limited_to(part.stat().st_size - 1):
        assert main([*words, f"--out={out}"]) == ExitCode.SAVE_FAILED
    line = events(capfd.readouterr().err)[-1]
    assert "part-00000.safetensors could not be written" in line["message"]
    assert main([*words, f"--out={out}"]) == ExitCode.OK
    assert list(numbers(batches(out))) == list(numbers(batches(whole)))
