"""The report of a check: exact where a run can be compared with it, whole whatever is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atp.check import command, output_folder
from atp.check.machine import Gpu, Nvidia
from atp.cli.main import main
from atp.dataset import output
from atp.errors import ExitCode
from atp.model import hub_cache

pytestmark = pytest.mark.usefixtures("cpu_measured_briefly")

Report = Callable[..., dict[str, Any]]
Options = Callable[..., list[str]]

KEYS = {
    "": [
        "version",
        "exit_code",
        "findings",
        "input",
        "pairs",
        "tokens",
        "model",
        "saes",
        "estimate",
        "machine",
        "output",
        "earlier_runs",
    ],
    "input": [
        "path",
        "format",
        "bytes",
        "sha256",
        "questions",
        "pairs",
        "problem_count",
        "truncated",
        "problems",
    ],
    "pairs": ["total", "scored", "skipped", "error", "skips", "errors"],
    "tokens": [
        "context",
        "prompt",
        "computed",
        "gradient",
        "base_prompts",
        "batches",
        "batch_tokens",
    ],
    "model": ["name", "where", "parameters", "dtype", "bytes", "download_bytes", "fetched"],
    "estimate": ["memory", "disk", "time"],
    "machine": ["device", "device_note", "gpus", "driver", "cuda_of_torch", "memory", "hub"],
    "output": ["path", "writable", "free_bytes", "held_by"],
}
PROBLEM = ["place", "question", "variation", "field", "line", "message", "hint", "run"]

ALONE = """
import sys
from atp.cli.main import main
code = main(sys.argv[1:])
torch = sys.modules.get("torch")
print("CUDA" if torch and torch.cuda.is_initialized() else "", file=sys.stderr)
print("SAELens" if "sae_lens" in sys.modules else "", file=sys.stderr)
print("torch" if torch else "", file=sys.stderr)
sys.exit(code)
"""


def alone(arguments: list[str]) -> tuple[int, str, list[str]]:
    """Check in a process of its own; return its exit code, output, and what it imported."""
    ended = subprocess.run(
        [sys.executable, "-c", ALONE, *arguments], capture_output=True, text=True, check=False
    )
    return ended.returncode, ended.stdout, list(filter(None, ended.stderr.splitlines()[-3:]))


@pytest.mark.parametrize("limit", [(), ("--limit=4",)], ids=["all", "limited"])
def test_the_outcomes_are_those_of_a_run(
    mixed: Path,
    options: Options,
    report: Report,
    capsys: pytest.CaptureFixture[str],
    limit: tuple[str, ...],
) -> None:
    found = report(mixed, *limit)

    assert main(["run", *options(mixed, *limit, weights=True)]) == ExitCode.PAIRS_FAILED
    result = json.loads(Path(capsys.readouterr().out.strip()).read_text())
    analyses = [
        variation["atp_analysis"]
        for question in result["results"]
        for variation in question["variations"]
        if "atp_analysis" in variation
    ]
    counts = result["metadata"]["atp"]["counts"]
    expected = {name: counts[name] for name in ("scored", "skipped", "error")}
    assert {name: found["pairs"][name] for name in expected} == expected
    for kind, plural in (("skipped", "skips"), ("error", "errors")):
        reasons = [analysis[kind] for analysis in analyses if kind in analysis]
        assert found["pairs"][plural] == {reason: reasons.count(reason) for reason in reasons}
    assert found["tokens"]["batch_tokens"] == result["metadata"]["atp"]["settings"]["batch_tokens"]


def test_each_pair_that_would_fail_is_a_problem_and_no_skip_is(mixed: Path, report: Report) -> None:
    found = report(mixed)

    assert found["exit_code"] == ExitCode.USAGE
    assert found["findings"] == []
    problems = found["input"]["problems"]
    assert [problem["place"] for problem in problems] == [
        "results[0].variations[4].response",
        "results[0].variations[5].prompt",
        "results[1].variations",
    ]
    assert {problem["run"] for problem in problems} == {"gives an error"}
    assert "Sequence too long" in problems[1]["message"]
    assert "the model reads 256 tokens" in problems[1]["message"]


def test_a_check_of_a_good_input_finds_nothing_wrong(input_file: Path, report: Report) -> None:
    found = report(input_file)

    assert found["exit_code"] == ExitCode.OK
    assert (found["findings"], found["input"]["problems"]) == ([], [])
    assert not (input_file.parent / "out").exists()


def test_the_object_has_the_keys_that_are_documented(mixed: Path, report: Report) -> None:
    found = report(mixed)

    for name, keys in KEYS.items():
        assert list(found[name] if name else found) == keys
    assert list(found["input"]["problems"][0]) == PROBLEM
    documented = (Path(__file__).parents[2] / "docs" / "check.md").read_text(encoding="utf-8")
    for name in KEYS[""]:
        assert f"`{name}`" in documented


def test_the_budget_of_a_pass_is_the_users(input_file: Path, report: Report) -> None:
    small, large = (report(input_file, f"--batch-tokens={n}")["tokens"] for n in (64, 4096))

    assert small["batches"] > large["batches"]
    assert (small["batch_tokens"], large["batch_tokens"]) == (64, 4096)


@pytest.mark.slow
def test_neither_cuda_is_started_nor_weights_are_read(input_file: Path, options: Options) -> None:
    """The weights that the check could read are none (the fixture sees to it)."""
    code, text, imported = alone(["check", *options(input_file)])

    assert (code, imported) == (ExitCode.OK, ["torch"])
    assert "nothing is wrong" in text


@pytest.mark.parametrize(
    "changes",
    [
        ["none.json"],
        [None, "--model=./nowhere"],
    ],
    ids=["input", "model"],
)
def test_a_missing_input_or_model_is_reported_without_torch(
    input_file: Path, options: Options, changes: list[str | None]
) -> None:
    arguments = options(input_file)
    arguments[0] = changes[0] or arguments[0]
    arguments[1:2] = changes[1:] or arguments[1:2]

    code, text, imported = alone(["check", *arguments])

    assert (code, imported) == (ExitCode.USAGE, [])
    for part in ("input", "pairs", "SAE", "hub", "disk", "time", "output", "result"):
        assert f"\n{part}" in f"\n{text}"
    assert "does not exist" in text


def test_the_report_is_whole_whatever_is_wrong(tmp_path: Path, options: Options) -> None:
    """Input, model, SAE and output folder are all wrong, and all are reported."""
    broken = tmp_path / "broken.json"
    broken.write_text('{"results": [3, ')
    arguments = ["check", str(broken), "--model=./nowhere", "--sae=./none", f"--out={broken}/x"]

    code, text, _ = alone([*arguments, "--json"])

    found = json.loads(text)
    assert code == found["exit_code"] == ExitCode.USAGE
    assert [finding["part"] for finding in found["findings"]] == ["model", "saes", "output"]
    assert found["input"]["problem_count"] == 2
    assert all(finding["message"] and finding["hint"] for finding in found["findings"])


def test_an_output_folder_that_cannot_be_made_is_reported(input_file: Path, report: Report) -> None:
    found = report(input_file, f"--out={input_file}/below")

    (finding,) = found["findings"]
    assert (finding["part"], finding["exit_code"]) == ("output", ExitCode.USAGE)
    assert "cannot be written to" in finding["message"]
    assert not found["output"]["writable"]


def test_a_model_that_is_not_cached_is_not_available_offline(
    input_file: Path, report: Report
) -> None:
    found = report(input_file, "--model=owner/none", "--allow-other-model")

    assert found["exit_code"] == ExitCode.UNAVAILABLE
    assert {finding["part"] for finding in found["findings"]} == {"model"}
    assert found["input"]["pairs"] == 15
    assert found["pairs"] == {"unknown": "the model is not available"}


def test_an_error_of_the_user_comes_before_a_missing_resource(mixed: Path, report: Report) -> None:
    assert report(mixed, "--device=cuda")["exit_code"] == ExitCode.USAGE


def test_a_missing_gpu_is_not_available(input_file: Path, report: Report) -> None:
    found = report(input_file, "--device=cuda")

    assert found["exit_code"] == ExitCode.UNAVAILABLE
    (finding,) = found["findings"]
    assert "--device=cuda" in finding["message"]
    assert found["pairs"]["scored"] > 0
    assert found["estimate"]["memory"] == {"unknown": "the device is not available"}


def test_a_gpu_is_named_with_its_memory_and_speed(
    input_file: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Gpu("NVIDIA H100 80GB HBM3", 80 << 30, 79 << 30)
    monkeypatch.setattr(command, "find_nvidia", lambda: Nvidia("580.95.05", (card,)))
    monkeypatch.setattr("torch.version.cuda", "13.0")

    found = report(input_file)

    assert found["exit_code"] == ExitCode.OK
    assert found["machine"]["gpus"][0]["name"] == card.name
    assert (found["machine"]["device"], found["model"]["dtype"]) == ("cuda", "bfloat16")
    assert found["tokens"]["batch_tokens"] == 16384
    assert found["estimate"]["memory"]["free_bytes"] == 79 << 30
    assert found["estimate"]["time"]["rate_flops"] == 989e12


def test_workers_on_gpus_divide_the_time_and_need_a_gpu_each(
    input_file: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Gpu("NVIDIA H100 80GB HBM3", 80 << 30, 79 << 30)
    monkeypatch.setattr(command, "find_nvidia", lambda: Nvidia("580.95.05", (card, card, card)))
    monkeypatch.setattr("torch.version.cuda", "13.0")
    alone, three, pairs, four = (
        report(input_file, *options)
        for options in (
            (),
            ("--engine=ray",),
            ("--workers=1", "--gpus-per-worker=2"),
            ("--workers=4",),
        )
    )
    for found, share, cards in ((three, 3, 1), (pairs, 1, 2)):
        assert found["exit_code"] == ExitCode.OK
        assert found["estimate"]["memory"]["free_bytes"] == cards * card.free_bytes
        expected = pytest.approx(alone["estimate"]["time"]["computing_seconds"][0] / share, abs=0.1)
        assert found["estimate"]["time"]["computing_seconds"][0] == expected
    (finding,) = four["findings"]
    assert (four["exit_code"], finding["part"]) == (ExitCode.USAGE, "workers")
    assert "--workers=4 needs 4 GPUs, and this machine has 3" in finding["message"]


def test_an_empty_address_is_that_of_no_cluster(
    input_file: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in ("", "local"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert report(input_file, "--workers=2")["estimate"]["memory"]["peak_bytes"] > 0


def test_of_a_cluster_this_machine_says_nothing(input_file: Path, report: Report) -> None:
    found = report(input_file, "--address=head:6379", "--device=cuda")
    assert (found["exit_code"], found["findings"]) == (ExitCode.OK, [])
    assert found["model"]["dtype"] == "bfloat16"
    for part in ("memory", "time"):
        assert found["estimate"][part] == {"unknown": "the nodes of the cluster are not looked at"}


def test_workers_on_a_cpu_share_its_memory(
    input_file: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (report(input_file, f"--workers={count}")["estimate"]["memory"] for count in (1, 2))
    assert two["peak_bytes"] == pytest.approx(2 * one["peak_bytes"], abs=1)

    monkeypatch.setitem(sys.modules, "ray", None)
    (finding,) = report(input_file, "--workers=2")["findings"]
    assert "atp-sycophancy[ray]" in finding["hint"]


@pytest.mark.parametrize(
    ("room", "part"),
    [({"memory": 1000}, "memory"), ({"disk": 1000}, "disk")],
    ids=["memory", "disk"],
)
def test_too_little_room_is_reported(
    input_file: Path,
    report: Report,
    monkeypatch: pytest.MonkeyPatch,
    room: dict[str, int],
    part: str,
) -> None:
    if "memory" in room:
        figures = {"free_bytes": room["memory"], "total_bytes": room["memory"]}
        monkeypatch.setattr("atp.check.run_outline.figures", lambda device: figures)
    else:
        monkeypatch.setattr(output_folder, "free_disk_bytes", lambda folder: room["disk"])

    found = report(input_file)

    assert found["exit_code"] == ExitCode.UNAVAILABLE
    (finding,) = found["findings"]
    assert finding["part"] == part
    assert "free" in finding["message"]


def test_a_wide_dictionary_says_its_size_before_it_is_downloaded(
    input_file: Path, report: Report, options: Options, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = "gemma-scope-2-12b-it-transcoders:transcoder/layer_12_width_262k_l0_big_affine"
    named = (f"--sae={spec}", "--allow-other-model")

    (found,) = report(input_file, *named)["saes"]

    d_in, d_sae = 3840, 2**18
    numbers = 2 * d_in * d_sae + d_in + 2 * d_sae + d_in**2  # the last is the skip path
    assert (found["d_in"], found["d_sae"], found["bytes"]) == (d_in, d_sae, 4 * numbers)
    assert found["download_bytes"] == 4 * numbers
    main(["check", *options(input_file, *named)])
    assert "262,144 features, 7.56 GiB" in " ".join(capsys.readouterr().out.split())


def test_a_dictionary_of_a_multimodal_model_is_one_of_its_text_part(
    input_file: Path, report: Report, model_folder: Callable[[str], Path]
) -> None:
    spec = "gemma-scope-2-12b-it-res-all:layer_0_width_16k_l0_small"
    model = model_folder("gemma3_multimodal")

    found = report(input_file, f"--model={model}", f"--sae={spec}", "--allow-other-model")

    (sae,) = found["saes"]
    assert sae["hook_name"] == "blocks.0.hook_resid_post"
    messages = [each["message"] for each in found["findings"] if each["part"] == "saes"]
    assert any("reads 3840 numbers (d_in)" in each and "gives 32" in each for each in messages)


def test_a_model_without_a_default_is_a_finding_like_any_other(
    input_file: Path, report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["check", str(input_file), "--model=owner/other", f"--out={tmp_path}", "--json"]

    assert main(arguments) == ExitCode.USAGE

    findings = json.loads(capsys.readouterr().out)["findings"]
    assert any("no SAE is known for the model" in each["message"] for each in findings)


def test_an_sae_that_does_not_fit_is_reported(
    input_file: Path,
    report: Report,
    monkeypatch: pytest.MonkeyPatch,
    sae_folder: Callable[..., Path],
) -> None:
    deep = sae_folder("topk", layer=9)

    found = report(input_file, f"--sae={deep}")

    assert found["exit_code"] == ExitCode.USAGE
    assert "4 layers" in found["findings"][0]["message"]


def test_earlier_runs_of_the_input_are_listed_and_left_as_they_are(
    input_file: Path, options: Options, report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *options(input_file, "--limit=2", weights=True)]) == ExitCode.OK
    capsys.readouterr()
    out = input_file.parent / "out"
    (journal,) = out.glob("*.journal.jsonl")
    other = input_file.parent / "other.json"
    other.write_text(json.dumps({"results": []}))
    before = {path: path.read_bytes() for path in out.iterdir()}

    (run,) = report(input_file)["earlier_runs"]

    assert run["journal"] == str(journal)
    assert (run["pairs"], run["failed"], run["damaged_lines"]) == (2, 0, [])
    assert run["ended"]
    assert report(other)["earlier_runs"] == []
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_a_damaged_journal_says_so(
    input_file: Path, options: Options, report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *options(input_file, weights=True)]) == ExitCode.OK
    capsys.readouterr()
    (journal,) = (input_file.parent / "out").glob("*.journal.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"0", b"1")
    journal.write_bytes(b"".join(lines)[:-5])

    (run,) = report(input_file)["earlier_runs"]

    assert run["damaged_lines"] == [3]
    assert run["torn_bytes"] > 0
    assert run["ended"] is None
    journal.write_bytes(b"x" + journal.read_bytes())
    assert report(input_file)["earlier_runs"][0]["header_damaged"]


def test_a_run_that_holds_the_folder_is_named(input_file: Path, report: Report) -> None:
    out = input_file.parent / "out"
    with output.held(out):
        found = report(input_file)
        assert str(os.getpid()) in found["output"]["held_by"]
        assert found["exit_code"] == ExitCode.OK

    assert report(input_file)["output"]["held_by"] is None


def test_the_token_of_the_hub_is_not_in_the_report(
    input_file: Path,
    options: Options,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    for more in ([], ["--json"]):
        main(["check", *options(input_file, *more)])
        written = capsys.readouterr()
        assert "secret" not in written.out + written.err
    assert hub_cache.hub().token


@pytest.mark.parametrize("command_name", ["run", "bench"])
def test_json_is_no_option_of_a_run(
    input_file: Path, options: Options, capsys: pytest.CaptureFixture[str], command_name: str
) -> None:
    assert main([command_name, *options(input_file, "--json")]) == ExitCode.USAGE
    told = capsys.readouterr().err
    assert f"--json is no option of atp {command_name}." in told
    assert "It is one of atp check, atp saes." in told


MEMORY = """
import re, sys
from pathlib import Path
from types import SimpleNamespace
from atp.attribution.contrasts import Contrast
from atp.check.findings import InputProblems
from atp.check.run_work import RunWork
from atp.config.settings import Settings
from atp.dataset.input_scan import scan_input

def pair_tokenizer(prompt, target, base):
    return SimpleNamespace(contrast=Contrast((1, 2, 3), 2, 4, 5))

problems = InputProblems()
work = RunWork(pair_tokenizer, Settings(Path(), Path()), 2048, problems, 256)
scan = scan_input(Path(sys.argv[1]), problems.add, work.add)
assert scan.pairs == work.scored == problems.count == int(sys.argv[2])
assert len(problems.kept) == min(10_000, problems.count)
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
LINE = json.dumps(
    {
        "variations": [
            {"prompt": "Q", "response": "no"},
            {"prompt": "Q", "response": "yes", "sycophancy_flag": 1, "template_type": "like"},
            {"sycophancy_flag": "maybe", "template_type": "like"},
        ]
    }
)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file_or_with_its_problems(tmp_path: Path) -> None:
    peaks = []
    for count in (11_000, 60_000):
        path = tmp_path / f"{count}.jsonl"
        path.write_text(f"{LINE}\n" * count)
        ended = subprocess.run(
            [sys.executable, "-c", MEMORY, str(path), str(count)],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(ended.stdout) >> 10)
    assert peaks[1] - peaks[0] <= 8
