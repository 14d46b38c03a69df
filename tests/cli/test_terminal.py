"""A terminal shows one live line and a summary; anything else gets lines of JSON."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path

import forked
import pytest
import tiny
from tiers import first_tier

from atp.errors import AtpError
from atp.runtime import live, log
from atp.runtime.live import phase

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"

pytestmark = pytest.mark.usefixtures("runs_share_models")


@pytest.fixture
def options(
    model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """Options that make `atp run` use the tiny GPT-2 and its SAE, with several batches."""
    sae = tmp_path_factory.mktemp("sae")
    tiny.faithful_sae().save_model(sae)  # another one would be warned of
    return [
        f"--model={model_folder('gpt2')}",
        f"--sae={sae}",
        "--device=cpu",
        "--batch-tokens=60",
    ]


def on_terminal(
    arguments: list[str],
    folder: Path,
    columns: int = 100,
    encoding: str = "utf-8",
    **environment: str,
) -> tuple[int, str]:
    """Run `atp` on a terminal; return the exit code, and all that the terminal receives."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    folder.mkdir(exist_ok=True)
    for name in ("stdout", "stderr"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(os.ttyname(slave))

    def prepare() -> None:
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            os.environ.pop(name, None)
        os.environ.update({"TERM": "xterm-256color"} | environment)
        sys.stderr.reconfigure(encoding=encoding, errors="backslashreplace")

    with forked.started(arguments, folder, prepare) as child:
        os.close(slave)
        received = b"".join(_read(master))
        os.close(master)
        _, status = os.waitpid(child.pid, 0)
    return os.waitstatus_to_exitcode(status), received.decode()


def _read(master: int) -> Iterator[bytes]:
    while select.select([master], [], [], forked.LONGEST)[0]:
        try:
            yield os.read(master, 1 << 16)
        except OSError:  # the other end is closed
            return
    pytest.fail("the command hangs")


def frames(received: str) -> list[str]:
    """Return what was drawn, line by line, without colours and movements."""
    plain = ESCAPE.sub("", received)
    return [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()]


@pytest.fixture
def shown(input_file: Path, options: list[str], tmp_path: Path) -> list[str]:
    """The frames of a run on a terminal."""
    code, received = on_terminal(["run", str(input_file), *options, "--out=o"], tmp_path / "w")

    assert code == 0
    assert received.count(HIDE_CURSOR) == received.count(SHOW_CURSOR) > 0
    assert COLOUR.search(received)
    return frames(received)


def test_the_live_line_tells_every_phase_and_then_disappears(shown: list[str]) -> None:
    text = "\n".join(shown)

    assert re.search(r"^loading tiny, \S+ KiB, and 1 SAE  \d+ s$", text, re.MULTILINE)
    assert re.search(r"^scoring  .*\d+/\d+ pairs", text, re.MULTILINE)
    assert re.search(r"strongest so far: \d+ \([+-]\d\.\d{3}\)$", text, re.MULTILINE)
    assert "{" not in text  # no line of the log, as nothing is wrong
    assert "batch.done" not in text


def test_the_rate_is_that_of_what_is_done_and_the_time_left_counts_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = iter([100.1, 100.2, 104.0, 106.0])
    monkeypatch.setattr(live.time, "monotonic", lambda: next(seconds))
    line = live.LiveLine("scoring", total=30, done=10, unit="pairs", began=100.0)

    line.advance(2)  # at 100.1: skipped, which says nothing of the rate
    assert line.parts() == ["scoring", "12/30 pairs"]
    line.advance(6)  # at 104: 8 pairs in 4 s, 12 are left
    assert line.parts() == ["scoring", "18/30 pairs", "2 pairs/s", "4 s left"]


def test_a_run_ends_with_a_summary_of_ten_lines_and_what_to_type_next(shown: list[str]) -> None:
    first = next(i for i, line in enumerate(shown) if line.startswith("scored "))
    lines = shown[first:]

    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [
        *("scored", "promoting", "suppressing", "trust", "results", "next"),
    ]
    assert re.match(r"scored +\d+ of \d+ pairs", lines[0])
    assert all(
        re.search(r"\d+  mean score [+-]\d\.\d{4}, 95 % [+-]\d\.\d+ to [+-]\d\.\d+$", line)
        for line in lines[1:7]
    )
    assert "the SAE explains" in " ".join(lines)
    assert lines[-1].endswith(" features o")
    assert shown[first - 1] == lines[-2].split()[1]  # standard output has the result's path


@pytest.mark.parametrize(
    ("exact", "what"),
    first_tier(
        [("flagged", "score or effect")],
        [("none", "score"), ("flagged", "score or effect"), ("all", "effect")],
    ),
)
def test_the_summary_says_what_atp_features_says(
    input_file: Path, options: list[str], tmp_path: Path, exact: str, what: str
) -> None:
    folder = tmp_path / "w"
    how = [f"--exact={exact}", "--exact-above=0.4"]
    _, received = on_terminal(["run", str(input_file), *options, *how, "--out=o"], folder)
    code, _ = on_terminal(["features", "o", "--top-features=1"], folder)

    assert code == 0
    (file,) = (folder / "o").glob("atp_features_*.json")
    rows = json.loads(file.read_text())["saes"][0]["features"]
    top = max(rows, key=lambda row: row["mean_best"])
    low, high = (f"{top[f'mean_best_{end}']:+.4f}" for end in ("low", "high"))
    expected = f"{top['id']:>7}  mean {what} {top['mean_best']:+.4f}, 95 % {low} to {high}"
    text = frames(received)
    assert f"promoting    {expected}" in text
    assert ("scores correlate" in " ".join(" ".join(text).split())) == (exact != "none")


def test_a_single_question_has_no_interval(
    input_file: Path, options: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "w"
    _, received = on_terminal(["run", str(input_file), *options, "--out=o", "--limit=1"], folder)
    code, of_features = on_terminal(["features", "o"], folder)

    assert code == 0
    for text in (received, of_features):
        assert "no interval: all pairs are of one question" in text
    assert "0 of these 6 intervals exclude 0" in received


def test_a_run_without_a_score_leads_to_a_check(options: list[str], tmp_path: Path) -> None:
    same = {"prompt": "P", "response": "yes"}
    variations = [
        {"template_type": "", **same},
        {**same, "template_type": "x", "sycophancy_flag": 1},
    ]
    source = tmp_path / "same.json"
    source.write_text(json.dumps({"results": [{"variations": variations}]}))

    code, received = on_terminal(["run", str(source), *options, "--out=o"], tmp_path / "w")

    assert code == 0
    assert "0 of 1 pairs; 1 skipped" in received
    assert frames(received)[-1].endswith(f" check {source}")


def test_no_color_means_no_colour(input_file: Path, options: list[str], tmp_path: Path) -> None:
    arguments = ["run", str(input_file), *options, "--out=o"]

    code, received = on_terminal(arguments, tmp_path / "w", NO_COLOR="1")

    assert code == 0
    colours = {code for sgr in COLOUR.findall(received) for code in sgr[2:-1].split(";")}
    assert colours <= {"", "0", "1", "2"}  # plain, bold, dim
    assert "scoring" in received


@pytest.mark.parametrize("columns", [20, 80])
def test_the_live_line_fits_a_narrow_terminal(
    input_file: Path, options: list[str], tmp_path: Path, columns: int
) -> None:
    arguments = ["run", str(input_file), *options, "--out=o"]

    code, received = on_terminal(arguments, tmp_path / "w", columns)

    assert code == 0
    drawn = [line for line in frames(received) if line.startswith(("scoring", "loading"))]
    assert drawn
    assert max(map(len, drawn)) < columns


def test_a_terminal_without_unicode_gets_ascii(
    input_file: Path, options: list[str], tmp_path: Path
) -> None:
    arguments = ["run", str(input_file), *options, "--out=o"]

    code, received = on_terminal(arguments, tmp_path / "w", encoding="ascii")

    assert code == 0
    assert "scoring" in received
    assert received.isascii()
    assert "\\u" not in received


def test_quiet_shows_nothing_but_the_path(
    input_file: Path, options: list[str], tmp_path: Path
) -> None:
    code, received = on_terminal(
        ["run", str(input_file), *options, "--out=o", "--quiet"], tmp_path / "w"
    )

    assert code == 0
    assert re.fullmatch(r"o/atp_results_tiny_\w+\.json\r\n", received)


def test_verbose_shows_the_events_above_the_live_line(
    input_file: Path, options: list[str], tmp_path: Path
) -> None:
    code, received = on_terminal(
        ["run", str(input_file), *options, "--out=o", "-v"], tmp_path / "w"
    )

    assert code == 0
    for event in ("run.start", "model.loaded", "batch.done", "run.done"):
        assert event in received
    assert "run_id" not in received


def test_json_can_be_asked_for_on_a_terminal(
    input_file: Path, options: list[str], tmp_path: Path
) -> None:
    arguments = ["run", str(input_file), *options, "--out=o"]

    code, received = on_terminal(arguments, tmp_path / "w", ATP_LOG_FORMAT="json")

    *lines, path = received.splitlines()
    assert code == 0
    assert {"run.start", "run.done"} <= {json.loads(line)["event"] for line in lines}
    assert path.startswith("o/atp_results")


def test_elsewhere_the_console_format_has_the_summary_and_no_live_line(
    input_file: Path, options: list[str], tmp_path: Path
) -> None:
    arguments = ["run", str(input_file), *options, "--out=o", "--log-format=console"]

    ended = forked.run(arguments, tmp_path / "w")

    assert ended.code == 0
    assert len(ended.out.splitlines()) == 1
    assert ended.err.splitlines()[1].startswith("scored ")
    assert "\x1b" not in ended.err
    assert "scoring" not in ended.err


@pytest.mark.slow
def test_a_summary_that_cannot_be_written_changes_no_exit_code(
    input_file: Path, options: list[str], tmp_path: Path
) -> None:
    run = ["run", str(input_file), *options, f"--out={tmp_path / 'o'}"]
    for arguments, expected in ((run, 0), (["run", "none.json"], 2)):
        with Path("/dev/full").open("w", encoding="utf-8") as full:
            command = [sys.executable, "-m", "atp", *arguments, "--log-format=console"]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, check=False)

        assert done.returncode == expected


def test_a_fault_is_one_line(tmp_path: Path) -> None:
    code, received = on_terminal(["run", "none.json"], tmp_path / "w")

    assert code == 2
    assert received.strip().startswith("atp: none.json does not exist.")


@pytest.mark.parametrize("words", ["no header", "no header.", "no\nheader.\n"])
def test_the_words_of_a_library_end_before_the_hint(words: str) -> None:
    error = AtpError(f"it cannot be loaded: {words}", "Check it.")

    assert str(error) == "it cannot be loaded: no header. Check it."


def test_a_process_that_exits_at_once_shows_the_cursor_again(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log, "_shown", log.Shown(console=True, live=True))

    with phase("scoring", 3, unit="pairs"):
        capfd.readouterr()
        live.restore_terminal()
        assert capfd.readouterr().err == SHOW_CURSOR
    capfd.readouterr()
    live.restore_terminal()
    assert capfd.readouterr().err == ""
