"""The command answers at once, says a fault in one line with its exit code, and loads no torch."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import atp
from atp.cli import build_settings
from atp.cli.commands import COMMANDS
from atp.cli.main import main
from atp.cli.usage import OVERVIEW, help_text
from atp.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

CANONICAL = "gemma-scope-9b-it-res-canonical"
TELL_TORCH = """
import json, os, sys
import atp.bench.command, atp.features.command, atp.fetch.command
import atp.intervention.command, atp.merge.command, atp.run.command
from atp.cli.main import main

for folder, arguments in json.load(sys.stdin):
    if os.fork() == 0:
        os.chdir(folder)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600), number)
        code = main(arguments)
        print("torch imported" if "torch" in sys.modules else "light", flush=True)
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
"""Runs commands, each in a fork of a process that has imported what starts them and no more."""


def fill(folder: Path) -> None:
    """Write what the commands below are given: one input, and two files that are none."""
    (folder / "answers.json").write_text('{"results": []}')
    (folder / "broken.json").write_text('{"results": [')
    (folder / "text.json").write_text("no JSON\nat all\n")
    (folder / "empty").mkdir()


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The working directory: a folder of the test with one input and two that are broken."""
    monkeypatch.setattr(build_settings, "VOLUME_INPUT", tmp_path / "no" / "volume")
    monkeypatch.chdir(tmp_path)
    fill(tmp_path)
    return tmp_path


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Run a command that must fail; return the one line it writes, on stderr, as an object."""
    code = main(arguments)
    written = capsys.readouterr()
    assert written.out == ""
    assert len(written.err.splitlines()) == 1
    line: dict[str, Any] = json.loads(written.err)
    assert line["event"] == "atp.failed"
    assert line["exit_code"] == code != 0
    return line


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `atp` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "atp", *arguments], capture_output=True, text=True, check=False
    )


def best_seconds(limit: float, tries: int, *arguments: str) -> float:
    """Return the least processor time the command took; stops trying when it is under the limit.

    Processor time, not time on the clock: other processes of the machine do not count.
    """
    best = float("inf")
    for _ in range(tries):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command(*arguments)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        if best < limit:
            break
    return best


# --- what it tells


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_without_a_standard_output_it_ends_well(option: str) -> None:
    shell = ["bash", "-c", '"$@" >&-', "atp", sys.executable, "-m", "atp", option]
    done = subprocess.run(shell, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_atp_alone_lists_the_commands(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(arguments) == ExitCode.OK

    assert capsys.readouterr() == (OVERVIEW, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_is_its_own(capsys: pytest.CaptureFixture[str], name: str) -> None:
    for arguments in ([name, "--help"], [name, "a", "-h"], ["--help", name]):
        assert main(arguments) == ExitCode.OK

        assert capsys.readouterr() == (help_text(name), "")


def test_version_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == ExitCode.OK

    assert capsys.readouterr() == (f"{atp.__version__}\n", "")


# --- what it refuses


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("frobnicate", "see atp --help"),
        ("answers.json", "Write atp run answers.json."),
        ("--top-k=3", "see atp --help"),
        ("Run", "Write atp run."),
        ("feature", "Write atp features."),
        ("intervine", "Write atp intervene."),
    ],
)
def test_a_wrong_command_is_named_with_a_near_one(
    capsys: pytest.CaptureFixture[str], word: str, hint: str
) -> None:
    line = failure(capsys, word)

    assert repr(word) in line["message"]
    assert hint in line["hint"]
    assert line["exit_code"] == ExitCode.USAGE


def test_an_option_before_the_command_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    line = failure(capsys, "--fresh", "run", "answers.json")

    assert line["message"] == "--fresh stands before the command."
    assert line["hint"] == "Write it after the command: atp run --fresh."


@pytest.mark.parametrize(
    ("option", "near"),
    [
        ("--topk=3", "--top-k"),
        ("--lim=3", "--limit"),
        ("--sae-widht", "--sae-width"),
        ("--chat_template", "--chat-template"),
    ],
)
def test_an_unknown_option_is_named_with_near_ones(
    capsys: pytest.CaptureFixture[str], option: str, near: str
) -> None:
    line = failure(capsys, "run", "answers.json", option)

    assert option.partition("=")[0] in line["message"]
    assert near in line["hint"]
    assert line["exit_code"] == ExitCode.USAGE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top-k"], "--top-k needs a value"),
        (["--model", "a", "--model", "b"], "--model is given twice"),
        (["--fresh=1"], "--fresh takes no value"),
        (["second.json"], "does not fit the usage"),
        (["-x"], "does not fit the usage"),
        (["--top-k=ten"], "--top-k must be a whole number of at least 1, not 'ten'"),
        (["--top-k", "0"], "--top-k must be a whole number of at least 1, not '0'"),
        (["--top-k="], "--top-k must be a whole number"),
        (["--hook-layer=9,x"], "--hook-layer must be whole numbers such as 9,20,31, each once"),
        (["--sae-width=many"], "--sae-width must be a number of features"),
        (["--model-dtype=float16"], "--model-dtype must be one of bfloat16, float32"),
        (["--device=gpu"], "--device must be cpu, cuda or cuda:N"),
        (["--out="], "--out must be a name or a path, not ''"),
        (["--model=gpt3"], "no SAE is known for the model 'gpt3'"),
        (["--hook-layer=10"], "--hook-layer=10: google/gemma-2-9b-it has no such dictionary"),
        (["--sae-width=16"], "--sae-width=16: google/gemma-2-9b-it at layer 31 has no such"),
        (["--sae-l0=tiny"], "--sae-l0 must be one of small, medium, big"),
        (["--sae-site=mlp"], "--sae-site=mlp: google/gemma-2-9b-it has no such dictionary"),
    ],
)
def test_a_wrong_option_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    line = failure(capsys, "run", "answers.json", *arguments)

    assert message in line["message"]
    assert line["exit_code"] == ExitCode.USAGE


def test_a_missing_input_argument_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert failure(capsys, "run")["message"] == "INPUT is missing."


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.json", "none.json does not exist"),
        ("empty", "empty is a folder"),
        ("text.json", "text.json is not valid JSON at line 1, column 2"),
        ("broken.json", "broken.json is not valid JSON at line 1"),
        ("answers.json/below", "answers.json/below"),
    ],
)
def test_an_input_at_fault_is_named(
    capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    line = failure(capsys, "run", name, "--out=out")

    assert message in line["message"]
    assert line["exit_code"] == ExitCode.USAGE


def test_a_bad_variable_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATP_TOPK", "3")

    line = failure(capsys, "run", "answers.json")

    assert "ATP_TOPK" in line["message"]
    assert "ATP_TOP_K" in line["hint"]
    assert line["exit_code"] == ExitCode.USAGE


def test_a_variable_of_another_program_is_a_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATP_HOME", "/opt/atp")
    monkeypatch.setenv("ATP_PORT", "tcp://10.0.0.11:80")  # of Kubernetes, for a Service called atp

    assert main(["run", "none.json"]) == ExitCode.USAGE

    warning, error = map(json.loads, capsys.readouterr().err.splitlines())
    assert (warning["event"], warning["level"]) == ("settings.unknown", "warning")
    assert warning["variable"] == "ATP_HOME"
    assert "none.json" in error["message"]


@pytest.mark.parametrize(
    ("spec", "message", "near"),
    [
        ("gemma-scope-9b-it-res-canonicl:x", "no release 'gemma-scope-9b-it-res-c", CANONICAL),
        (f"{CANONICAL}:layer_31/width_16/canonical", "no SAE", "layer_31/width_16k/canonical"),
        (f"{CANONICAL}:", "no SAE ''", "layer_31/width_16k/canonical"),
        ("no-folder-and-no-colon", "neither RELEASE:SAE_ID nor a folder", CANONICAL),
        ("./none", "neither RELEASE:SAE_ID nor a folder", CANONICAL),
        ("empty", "holds no cfg.json", "SAELens"),
        ("~no-such-user/sae", "~no-such-user/sae", "--sae="),
        (f"{CANONICAL}:layer_*/width_16/*", "no SAE that matches", "layer_31/width_16k/canonical"),
        ("gemma-scope-9b-it-res-canonicl:*", "no release 'gemma-scope-9b-it-res-c", CANONICAL),
        ("owner/repository:*", "does not list the SAEs of owner/repository", "SAE_ID"),
        ("emptyy*", "--sae=emptyy* matches no folder", "empty"),
        ("empt*", "--sae=empty holds no cfg.json", "SAELens"),
    ],
)
def test_an_unknown_sae_is_named_with_near_ones(
    capsys: pytest.CaptureFixture[str], spec: str, message: str, near: str
) -> None:
    line = failure(capsys, "run", "answers.json", f"--sae={spec}")

    assert message in line["message"]
    assert near in line["hint"]
    assert line["exit_code"] == ExitCode.USAGE


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./none", "does not exist"),
        ("none.gguf", "does not exist"),
        ("empty", "config.json"),
        ("answers.json", "not a GGUF file"),
        ("a/b/c", "neither a hub name"),
        ("owner/", "neither a hub name"),
        ("~no-such-user/model", "does not exist"),
        ("x" * 300, "neither a hub name"),
    ],
)
def test_a_model_that_cannot_be_is_named(
    capsys: pytest.CaptureFixture[str], model: str, message: str
) -> None:
    sae = f"--sae={CANONICAL}:layer_31/width_16k/canonical"

    line = failure(capsys, "run", "answers.json", f"--model={model}", sae)

    assert model in line["message"]
    assert message in line["message"]
    assert line["exit_code"] == ExitCode.USAGE


def test_an_output_folder_that_cannot_be_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    line = failure(capsys, "run", "answers.json", "--out=answers.json/out")

    assert "answers.json/out cannot be written to" in line["message"]
    assert line["exit_code"] == ExitCode.USAGE


@pytest.mark.parametrize("name", ["line\nbreak.json", "ответы.json", 'quo"te.json', "\udcff.json"])
def test_a_fault_is_one_line_whatever_the_name_holds(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert name.splitlines()[-1] in failure(capsys, "run", name, "--out=out")["message"]


def test_every_line_of_a_run_carries_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    first = failure(capsys, "run", "none.json")
    second = failure(capsys, "run", "none.json")

    assert len(first["run_id"]) == 12
    assert first["run_id"] != second["run_id"]


# --- as a process


def test_help_answers_in_under_three_tenths_of_a_second() -> None:
    assert best_seconds(0.3, 5, "--help") < 0.3


def test_the_process_prints_help_and_version() -> None:
    shown = command("--help")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, OVERVIEW, "")

    shown = command("--version")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"{atp.__version__}\n", "")


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    code = (
        "import sys, atp, atp.cli.main, atp.run.command, atp.features.command; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "atp" in loaded
    assert not loaded & {"torch", "transformers", "transformer_lens", "sae_lens", "huggingface_hub"}


FAULTS = [
    ["frobnicate"],
    ["run", "answers.json", "--topk=3"],
    ["run", "answers.json", "--top-k"],
    ["run", "answers.json", "--top-k=3", "--top-k=4"],
    ["run", "answers.json", "--top-k=ten"],
    ["run", "none.json"],
    ["run", "text.json"],
    ["run", "answers.json", "--sae=gemma-scope-9b-it:x"],
    ["run", "answers.json", f"--sae={CANONICAL}:x"],
    ["run", "answers.json", f"--sae={CANONICAL}:*"],
    ["run", "answers.json", "--sae=./none*"],
    ["run", "answers.json", "--sae=temporal-sae-gemma-2-2b:*", "--model=google/gemma-2-2b"],
    ["run", "answers.json", "--model=./none"],
    ["run", "answers.json", "--model=owner/other"],
    ["run", "answers.json", "--hook-layer=10"],
    ["run", "answers.json", "--model=google/gemma-3-12b-it", "--sae-width=131k"],
    ["run", "answers.json", "--out=answers.json"],
    ["run", "answers.json", "--shard=0/2"],
    ["run", "answers.json", "--shard=2/2", "--batch-tokens=9"],
    ["bench", "answers.json", "--shard=0/2", "--batch-tokens=9"],
    ["merge"],
    ["merge", "none.json"],
    ["merge", "empty"],
    ["merge", "answers.json"],
    ["merge", "text.json"],
    ["merge", "answers.json", "--top-k=3"],
    ["merge", "answers.json", "--out=answers.json"],
    ["features"],
    ["features", "none.json"],
    ["features", "empty"],
    ["features", "answers.json"],
    ["features", "text.json"],
    ["features", "answers.json", "--min-score=much"],
    ["features", "answers.json", "--top-k=3"],
    ["features", "answers.json", "--out=answers.json"],
    ["intervene", "answers.json"],
    ["intervene", "answers.json", "--features=none.json"],
    ["intervene", "answers.json", "--features=answers.json"],
    ["intervene", "answers.json", "--features=answers.json", "--strength=x"],
    ["intervene", "answers.json", "--top-k=3"],
    ["intervene", "--compare", "answers.json"],
    ["intervene", "--compare", "answers.json", "none.json"],
    ["config", "run", "--topk=3"],
    ["config", "frobnicate"],
    ["config", "saes"],
    ["saes", "google/gema-3-12b-it"],
    ["saes", "./none"],
    ["saes", "gpt2", "--top-k=3"],
    ["completion", "csh"],
    ["run", "answers.json", "--config=none.toml"],
    ["run", "answers.json", "--config=answers.json"],
    ["fetch", f"--sae={CANONICAL}:x"],
    ["fetch", "--model=./none"],
    ["fetch", "answers.json"],
]


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str]]:
    """The exit code, standard output and standard error of every faulty command."""
    folders = [tmp_path_factory.mktemp("fault") for _ in FAULTS]
    for folder in folders:
        fill(folder)
    done = subprocess.run(
        [sys.executable, "-c", TELL_TORCH],
        input=json.dumps([*zip(map(str, folders), FAULTS, strict=True)]),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {
        " ".join(arguments): (
            int(code),
            (folder / "stdout").read_text(encoding="utf-8"),
            (folder / "stderr").read_text(encoding="utf-8"),
        )
        for arguments, folder, code in zip(FAULTS, folders, done.stdout.split(), strict=True)
    }


@pytest.mark.parametrize("command", map(" ".join, FAULTS))
def test_a_fault_is_one_line_and_exit_code_2_without_torch(
    without_torch: dict[str, tuple[int, str, str]], command: str
) -> None:
    code, stdout, stderr = without_torch[command]

    assert code == ExitCode.USAGE
    assert stdout == "light\n"
    assert len(stderr.splitlines()) == 1
    assert "Traceback" not in stderr
    assert json.loads(stderr)["exit_code"] == ExitCode.USAGE


@pytest.mark.parametrize("arguments", [FAULTS[0], FAULTS[5], FAULTS[6], FAULTS[8]], ids=" ".join)
def test_a_fault_is_told_in_under_a_second(arguments: list[str]) -> None:
    assert command(*arguments).returncode == ExitCode.USAGE
    assert best_seconds(1, 3, *arguments) < 1


# --- where it writes

PRETEND = """
import sys
from pathlib import Path
import structlog
import atp.run.command
from atp.cli.main import main

def run(settings, stop, own):
    structlog.get_logger().info("run.start")
    return 0, [Path("result.json")]

atp.run.command.run = run
sys.exit(main(["run", "answers.json"]))
"""
"""The command line around a run that is done."""


def test_a_result_path_that_cannot_be_printed_is_told_on_stderr() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123  (a device)
        done = subprocess.run(
            [sys.executable, "-c", PRETEND], stdout=full, stderr=subprocess.PIPE, check=False
        )

    assert done.returncode == ExitCode.SAVE_FAILED
    assert "result.json" in json.loads(done.stderr.splitlines()[-1])["hint"]


def test_a_log_that_cannot_be_written_changes_nothing() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123  (a device)
        good = subprocess.run(
            [sys.executable, "-c", PRETEND], stdout=subprocess.PIPE, stderr=full, check=False
        )
        bad = subprocess.run(
            [sys.executable, "-m", "atp", "run", "none.json"], stderr=full, check=False
        )

    assert (good.returncode, good.stdout) == (ExitCode.OK, b"result.json\n")
    assert bad.returncode == ExitCode.USAGE


def test_a_reader_of_the_log_who_leaves_ends_no_run() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PRETEND], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        process.stderr.close()
        assert process.stdout is not None
        assert process.stdout.read() == b"result.json\n"
    assert process.returncode == ExitCode.OK


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_help_text_that_cannot_be_printed_is_told_in_one_line(option: str) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123  (a device)
        done = subprocess.run(
            [sys.executable, "-m", "atp", option], stdout=full, stderr=subprocess.PIPE, check=False
        )

    assert done.returncode == ExitCode.SAVE_FAILED
    assert len(done.stderr.splitlines()) == 1
