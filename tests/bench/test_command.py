"""`atp bench` from a file to a table and a JSON file whose figures agree with each other."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import tiny
import torch

from atp.bench import contenders
from atp.cli.main import main
from atp.dataset.output import LOCK_NAME, held
from atp.errors import ExitCode

PROCEDURES = ["notebook", "atp", "passes", "bare"]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made: a folder of the test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def options(
    model_folder: Callable[[str], Path], sae_folder: Callable[..., Path], tmp_path: Path
) -> list[str]:
    """Options that make atp use the tiny GPT-2, two SAEs and a folder of the test."""
    return [
        f"--model={model_folder('gpt2')}",
        f"--sae={sae_folder('standard')}",
        f"--sae={sae_folder('topk', layer=2, d_sae=64)}",
        f"--out={tmp_path / 'out'}",
        "--device=cpu",
    ]


def write(path: Path, questions: list[dict[str, Any]]) -> Path:
    """Write an input file."""
    path.write_text(json.dumps({"results": questions}, ensure_ascii=False), encoding="utf-8")
    return path


def last_line(capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the last line of a log whose run printed no result."""
    out, err = capfd.readouterr()
    assert out == ""
    line: dict[str, Any] = json.loads(err.splitlines()[-1])
    return line


def cells(table: str) -> dict[str, list[str]]:
    """Return the rows of Markdown tables: what follows the first cell, by that."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("|") and "---" not in line
    ]
    return {name: rest for name, *rest in rows}


@pytest.mark.slow
def test_a_bench_writes_figures_that_agree_and_prints_them(
    input_file: Path,
    options: list[str],
    temporary: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments = ["bench", str(input_file), *options, "--rounds=3", "--batch-tokens=300"]
    assert main(arguments) == ExitCode.OK
    out, err = capfd.readouterr()
    *table, last = out.splitlines()
    path = Path(last)
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == sorted(
        [path.name, LOCK_NAME]
    )
    assert path.parent == tmp_path / "out"
    assert re.fullmatch(r"atp_bench_tiny_\d{8}_\d{6}\.json", path.name)
    assert list(temporary.iterdir()) == []
    figures = json.loads(path.read_bytes())

    assert figures["input"]["pairs"] == 15
    assert figures["input"]["batch_tokens"] == 300
    assert figures["input"]["tokens"] <= figures["input"]["padded_tokens"]
    assert 1 < figures["input"]["batches"] <= 15
    assert figures["rounds"] == 3
    assert [each["d_sae"] for each in figures["saes"]] == [128, 64]
    assert figures["model"] == {"name": "tiny", "dtype": "torch.float32"}
    assert figures["machine"]["device"] == "cpu"
    assert figures["machine"]["threads"] == torch.get_num_threads()

    procedures = figures["procedures"]
    assert list(procedures) == PROCEDURES
    for row in procedures.values():
        assert len(row["seconds"]) == 3
        assert min(row["seconds"]) > 0
        assert row["median_seconds"] == median(row["seconds"])
        assert row["pairs_per_second"] * row["seconds_per_pair"] == pytest.approx(1)
        assert row["pairs_per_second"] == pytest.approx(15 / row["median_seconds"])
        tokens = figures["input"]["tokens"]
        assert row["tokens_per_second"] == pytest.approx(tokens / row["median_seconds"])
        assert row["out_of_memory"] is False
        assert row["peak_bytes"] is None or row["peak_bytes"] > 2**20

    def of_rounds(one: str, other: str) -> float:
        pairs = zip(procedures[one]["seconds"], procedures[other]["seconds"], strict=True)
        return median(a / b for a, b in pairs)

    assert figures["ratios"] == {
        "notebook / atp": pytest.approx(of_rounds("notebook", "atp")),
        "atp / bare": pytest.approx(of_rounds("atp", "bare")),
        "outside the passes": pytest.approx(1 - of_rounds("passes", "atp")),
    }
    assert figures["ratios"]["atp / bare"] > 1
    assert figures["ratios"]["outside the passes"] < 1

    printed = cells("\n".join(table))
    assert printed["procedure"] == ["s/pair", "pairs/s", "tokens/s", "peak GiB"]
    for name, row in procedures.items():
        peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**30:.2f}"
        assert printed[name] == [
            f"{row['seconds_per_pair']:.4f}",
            f"{row['pairs_per_second']:.2f}",
            f"{row['tokens_per_second']:.0f}",
            peak,
        ]
    for name, value in figures["ratios"].items():
        assert printed[name] == [f"{value:.3g}"]
    assert "2 SAE(s)" in table[0]
    assert "median of 3 rounds" in table[0]

    names = [json.loads(line)["event"] for line in err.splitlines() if line.startswith("{")]
    assert names.count("bench.round") == 3 * len(PROCEDURES)
    assert "Please comment" not in err  # no prompt in the log


@pytest.mark.slow
def test_a_procedure_without_memory_is_reported_and_the_others_are_measured(
    input_file: Path,
    options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Hungry(contenders.Notebook):
        """A notebook that needs more than any machine has."""

        def __call__(self, *texts: str, **options: Any) -> Any:
            torch.empty(2**58)
            return super().__call__(*texts, **options)

    monkeypatch.setattr(contenders, "Notebook", Hungry)
    assert main(["bench", str(input_file), *options, "--rounds=1"]) == ExitCode.OK
    *table, last = capfd.readouterr().out.splitlines()
    figures = json.loads(Path(last).read_bytes())
    assert figures["procedures"]["notebook"]["out_of_memory"] is True
    assert figures["procedures"]["notebook"]["seconds_per_pair"] is None
    assert figures["ratios"]["notebook / atp"] is None
    printed = cells("\n".join(table))
    assert printed["notebook"] == ["out of memory", "", "", ""]
    assert printed["notebook / atp"] == [""]
    for name in PROCEDURES[1:]:
        assert figures["procedures"][name]["seconds_per_pair"] > 0
        assert float(printed[name][0]) >= 0
    assert figures["ratios"]["atp / bare"] > 0


def test_rounds_are_of_bench_alone(
    input_file: Path, options: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(input_file), *options, "--rounds=2"]) == ExitCode.USAGE
    assert "--rounds is no option of atp" in last_line(capfd)["message"]


@pytest.mark.parametrize("value", ["0", "-1", "two", ""])
def test_rounds_are_a_whole_number(
    input_file: Path, options: list[str], value: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(input_file), *options, f"--rounds={value}"]) == ExitCode.USAGE
    assert "--rounds" in last_line(capfd)["message"]


def test_an_sae_on_another_hook_point_is_refused_in_one_line(
    input_file: Path, options: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sae = tiny.make_sae("standard")
    sae.cfg.metadata.hook_name = "blocks.1.hook_mlp_out"
    sae.save_model(tmp_path / "mlp")
    spec = f"--sae={tmp_path / 'mlp'}"
    assert main(["bench", str(input_file), *options, spec]) == ExitCode.USAGE
    last = last_line(capfd)
    assert last["event"] == "atp.failed"
    assert last["message"] == f"{spec} reads blocks.1.hook_mlp_out."
    assert "residual stream" in last["hint"]
    assert [each.name for each in (tmp_path / "out").iterdir()] == [LOCK_NAME]
    # `atp run` takes it.
    arguments = ["run", str(input_file), options[0], *options[3:], spec, "--limit=1"]
    assert main(arguments) == ExitCode.OK


def test_an_input_without_a_pair_that_can_be_scored_is_refused(
    tmp_path: Path, options: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    questions = tiny.questions(2)
    for question in questions:
        for variation in question["variations"]:
            variation["response"] = "The same for all."
    path = write(tmp_path / "same.json", questions)
    assert main(["bench", str(path), *options]) == ExitCode.USAGE
    last = last_line(capfd)
    assert last["message"] == f"{path} holds no pair that can be scored."
    assert last["hint"]
    assert [each.name for each in (tmp_path / "out").iterdir()] == [LOCK_NAME]


@pytest.mark.parametrize("content", ['{"results": [', "no JSON", '{"results": 5}', ""])
def test_an_input_that_is_broken_is_refused(
    tmp_path: Path, options: list[str], content: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken.json"
    path.write_text(content, encoding="utf-8")
    assert main(["bench", str(path), *options]) == ExitCode.USAGE
    assert str(path) in last_line(capfd)["message"]


def test_a_broken_input_is_reported_before_the_model_is_loaded(
    tmp_path: Path, options: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """As `atp run` does: loading takes minutes."""
    path = tmp_path / "broken.json"
    path.write_text('{"results": [', encoding="utf-8")
    for command in ("run", "bench"):
        assert main([command, str(path), *options]) == ExitCode.USAGE
        assert "model.loaded" not in capfd.readouterr().err


@pytest.mark.slow
def test_pairs_that_cannot_be_scored_are_no_part_of_what_is_timed(
    tmp_path: Path, options: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    questions = tiny.questions(3)
    questions[0]["variations"][1]["response"] = ""
    del questions[1]["variations"][0]
    path = write(tmp_path / "mixed.json", questions)
    assert main(["bench", str(path), *options, "--rounds=1"]) == ExitCode.OK
    figures = json.loads(Path(capfd.readouterr().out.splitlines()[-1]).read_bytes())
    assert figures["input"]["pairs"] == 2 + 3
    assert all(row["seconds"] for row in figures["procedures"].values())


def test_a_bench_on_a_folder_in_use_is_refused(
    input_file: Path, options: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with held(tmp_path / "out"):
        assert main(["bench", str(input_file), *options]) == ExitCode.BUSY
    assert str(tmp_path / "out") in last_line(capfd)["message"]


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--exact=flagged", "--exact"),
        ("--method=ig", "--method"),
        ("--baseline=mean", "--baseline"),
        ("--position=all", "--position"),
        ("--metric=sequence", "--metric"),
        ("--prompt-activations", "--prompt-activations"),
        ("--device-map=auto", "--device-map"),
    ],
)
def test_what_the_notebook_does_not_have_is_not_timed(
    input_file: Path, options: list[str], capfd: pytest.CaptureFixture[str], option: str, named: str
) -> None:
    """Before anything is loaded, in one line that names the option."""
    assert main(["bench", str(input_file), *options, option]) == ExitCode.USAGE
    line = last_line(capfd)
    assert f"not {named}." in line["message"]
    assert "Leave that out" in line["hint"]
